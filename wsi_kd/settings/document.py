"""The settings models as documents: configs/default.yaml (comments from docstrings), configs/schema.json."""

import json
import textwrap
from typing import Any, get_args

import yaml
from pydantic.fields import FieldInfo

from wsi_kd.settings.all import Settings
from wsi_kd.settings.base import Section
from wsi_kd.settings.distill import DistillSettings

_HEADING = """\
# Every setting of wsi_kd at its default. Copy this file, keep only what you change, and run
#     snakemake -c8 --configfile my.yaml
# A key that nobody knows is an error. Threads, memory and GPUs belong to workflow/profiles/, not here.
# Written by `wsi-kd config default`; edit the docstrings in wsi_kd/settings/, not this file.
"""
_WIDTH = 110
SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def default_yaml() -> str:
    """Return the settings file that holds every default, each key below its description."""
    return _HEADING + "".join(_section_lines(Settings(), depth=0)).rstrip("\n") + "\n"


def schema_json() -> str:
    """Return the JSON schema of the settings file (editors complete and check keys with it)."""
    return _schema_json(Settings, title="wsi_kd settings")


def distill_schema_json() -> str:
    """Return the JSON schema of the files of configs/kd; those whose data are `tiles` have another form."""
    return _schema_json(DistillSettings, title="wsi_kd distillation")


def _schema_json(model: type[Section], *, title: str) -> str:
    schema = {"$schema": SCHEMA_DIALECT, **model.model_json_schema(), "title": title}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _section_lines(section: Section, *, depth: int) -> list[str]:
    lines: list[str] = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            lines += ["\n", *_comment(type(value).__doc__ or "", depth=depth), f"{'  ' * depth}{name}:\n"]
            lines += _section_lines(value, depth=depth + 1)
        else:
            lines += _comment(" ".join(_told(field)), depth=depth)
            lines.append(f"{'  ' * depth}{name}: {_scalar(section.model_dump(mode='json')[name])}\n")
    return lines


def _told(field: FieldInfo) -> list[str]:
    description = [" ".join((field.description or "").split())] if field.description else []
    choices = _choices(field.annotation)
    named = field.description or ""
    hidden = [choice for choice in choices if choice not in named]
    return [*description, f"One of: {', '.join(choices)}."] if hidden else description


def _choices(annotation: Any) -> list[str]:
    arguments = get_args(annotation)
    if arguments and all(isinstance(argument, str) for argument in arguments):
        return list(arguments)
    return [choice for argument in arguments for choice in _choices(argument)]


def _comment(text: str, *, depth: int) -> list[str]:
    indent = "  " * depth + "# "
    first_paragraph = " ".join(text.split("\n\n", maxsplit=1)[0].split())
    return [
        f"{line}\n"
        for line in textwrap.wrap(first_paragraph, _WIDTH, initial_indent=indent, subsequent_indent=indent)
    ]


def _scalar(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...").strip()

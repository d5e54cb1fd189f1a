"""Settings out of files; every fault in one line: the key, what came, what was expected, the nearest name."""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, Tag, ValidationError

from wsi_kd.core.errors import BadInput
from wsi_kd.settings.base import NO_NUMBER, Section
from wsi_kd.settings.yaml_text import load_yaml

Model = TypeVar("Model", bound=Section)
EXPECTED: Final = {
    "union_tag_not_found": "{name: ...}",
    "model_type": "keys with values below it",
    "model_attributes_type": "keys with values below it",
    "dict_type": "keys with values below it",
    "tuple_type": "a list",
    NO_NUMBER: "a number",
}
"""What pydantic's types of errors are in words of a file."""
MAX_SHOWN: Final = 200
"""Letters of a value that an error repeats."""
OF_A_UNION: Final = re.compile(r"constrained-\w+|bool|int|float|str|(tuple|list)\[.*\]")
"""How pydantic names a type among several that a value may have, at the end of a location."""


def parse(model: type[Model], value: Mapping[str, Any], *, where: str) -> Model:
    """Validate settings; all faults are told at once, unknown keys and names with the nearest known one.

    Raises:
        BadInput: naming `where`, the key, what came and what was expected.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = [fault for fault in error.errors() if fault["type"] != "too_short" or not fault["input"]]
        told = [_explain(_at_its_key(fault), model) for fault in faults]
        raise BadInput(f"{where}: " + "; ".join(dict.fromkeys(told))) from None


def read_mapping(path: Path, *, such_as: str) -> dict[str, Any]:
    """Read a YAML (or JSON) file that holds a mapping; tags that would build objects are refused.

    Raises:
        BadInput: a file that cannot be read, is no YAML, or holds something else than sections `such_as`.
    """
    try:
        value = load_yaml(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); expected a settings file") from None
    except UnicodeDecodeError as error:
        line = 1 + error.object.count(b"\n", 0, error.start)
        raise BadInput(
            f"{path}: line {line} is not UTF-8 (byte {error.start}); save the settings file as UTF-8"
        ) from None
    except ValueError as error:
        raise BadInput(f"{path}: not valid YAML: {error}") from None
    if not isinstance(value, dict):
        raise BadInput(f"{path}: expected sections such as `{such_as}:`, found {type(value).__name__}")
    return value


def _explain(fault: Any, model: type[BaseModel]) -> str:
    parts = [part for part in fault["loc"] if part != "[key]"]
    location = ".".join(map(str, _keys(parts, model)))
    if fault["type"] == "extra_forbidden":
        known = [name for found in _models_at(parts[:-1], model) for name in found.model_fields]
        return f"unknown key '{location}'{_near(str(parts[-1]), known)}"
    if fault["type"] == "union_tag_invalid":
        known = [tag.strip("'") for tag in fault["ctx"]["expected_tags"].split(", ")]
        return f"unknown {location} '{fault['ctx']['tag']}'{_near(str(fault['ctx']['tag']), known)}"
    if fault["type"] == "value_error":  # a rule between keys: it says itself what it found
        return f"{location}: {fault['ctx']['error']}".removeprefix(": ")
    if fault["type"] in EXPECTED:
        return f"{location}: expected {EXPECTED[fault['type']]}, found {_shown(fault['input'])}"
    if fault["type"] == "missing":
        return f"{location}: it is missing"
    return f"{location}: {fault['msg'][0].lower()}{fault['msg'][1:]}, found {_shown(fault['input'])}"


def _at_its_key(fault: Any) -> Any:
    """Move a fault that a section told of one of its values to that value."""
    if fault["type"] != NO_NUMBER:
        return fault
    key, value = fault["ctx"]["key"], fault["ctx"]["value"]
    return {**fault, "loc": (*fault["loc"], key), "input": value}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _near(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean '{near[0]}'?)" if near else f"; known: {', '.join(known)}"


def _keys(location: list[int | str], model: type[BaseModel]) -> Iterator[int | str]:
    """Yield the parts of a location that stand in the file: without the tags of unions."""
    for depth, part in enumerate(location):
        tags = {tag for tag, _ in _variants_at(location[:depth], model)}
        if part not in tags and not (depth == len(location) - 1 and OF_A_UNION.fullmatch(str(part))):
            yield part


def _models_at(location: list[int | str], model: type[BaseModel]) -> list[type[BaseModel]]:
    return [found for _, found in _variants_at(location, model)]


def _variants_at(
    location: list[int | str], model: type[BaseModel]
) -> list[tuple[str | None, type[BaseModel]]]:
    """Return the models that may stand at a location, each with its tag if it is one of a union."""
    here: list[tuple[str | None, type[BaseModel]]] = [(None, model)]
    for part in location:
        if isinstance(part, int):
            continue
        tagged: list[tuple[str | None, type[BaseModel]]] = [(None, own) for tag, own in here if tag == part]
        fields = [found.model_fields[part] for _, found in here if part in found.model_fields]
        here = tagged or [pair for field in fields for pair in _variants(field.annotation)]
    return here


def _variants(annotation: Any) -> list[tuple[str | None, type[BaseModel]]]:
    """Return the models within an annotation; those of a union told apart by `name` have it as their tag."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [(None, annotation)]
    inner = get_args(annotation)
    tags = [tag.tag for tag in getattr(annotation, "__metadata__", ()) if isinstance(tag, Tag)]
    found = [(tags[0] if tags else tag, model) for part in inner for tag, model in _variants(part)]
    if len(found) > 1:
        return [(own, model) for tag, model in found for own in ([tag] if tag else _own_tags(model))]
    return found


def _own_tags(model: type[BaseModel]) -> list[str | None]:
    field = model.model_fields.get("name")
    return list(get_args(field.annotation)) if field is not None else [None]

"""The whole settings file: one section a step."""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from wsi_kd.core.errors import BadInput
from wsi_kd.settings.base import Section
from wsi_kd.settings.models import SplitSettings, TrainSettings
from wsi_kd.settings.results import EvaluateSettings, PredictSettings, ReportSettings
from wsi_kd.settings.run import RunSettings
from wsi_kd.settings.slides import EmbedSettings, MaskSettings, SlidesSettings, TileSettings


class Settings(Section):
    """Every section; each has defaults, so an empty file is a valid one."""

    run: RunSettings = RunSettings()
    slides: SlidesSettings = SlidesSettings()
    mask: MaskSettings = MaskSettings()
    tile: TileSettings = TileSettings()
    embed: EmbedSettings = EmbedSettings()
    split: SplitSettings = SplitSettings()
    train: TrainSettings = TrainSettings()
    predict: PredictSettings = PredictSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    report: ReportSettings = ReportSettings()


def parse_settings(value: Mapping[str, Any], *, where: str) -> Settings:
    """Validate settings; every fault is told in one line, unknown keys with the nearest known one.

    Raises:
        BadInput: naming `where`, the key, what came and what was expected.
    """
    try:
        return Settings.model_validate(value)
    except ValidationError as error:
        raise BadInput(f"{where}: " + "; ".join(_explain(fault) for fault in error.errors())) from None


def read_settings(path: Path) -> Settings:
    """Read a YAML (or JSON) settings file."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); expected a settings file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise BadInput(f"{path}: expected sections such as `tile:`, found {type(value).__name__}")
    return parse_settings(value, where=str(path))


def parse_json_settings(text: str) -> Settings:
    """Parse the `--settings` argument: a JSON object of sections, absent ones at their defaults."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BadInput(f"--settings: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadInput(f"--settings: expected a JSON object of sections, found {type(value).__name__}")
    return parse_settings(value, where="--settings")


def sections_json(settings: Settings, *names: str) -> str:
    """Return the named sections as canonical JSON: the text that a rule hands to its command."""
    value = {name: getattr(settings, name).model_dump(mode="json") for name in names}
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _explain(fault: Any) -> str:
    location = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"unknown key '{location}'{_near(fault['loc'])}"
    return f"{location}: {fault['msg'][0].lower()}{fault['msg'][1:]}, found {fault['input']!r}"


def _near(location: tuple[int | str, ...]) -> str:
    model: Any = Settings
    for part in location[:-1]:
        model = model.model_fields[str(part)].annotation
    near = get_close_matches(str(location[-1]), model.model_fields, n=1, cutoff=0.5)
    return f" (did you mean '{near[0]}'?)" if near else f"; known: {', '.join(model.model_fields)}"

"""The whole settings file: one section a step."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsi_kd.core.errors import BadInput
from wsi_kd.settings.adopt import AdoptSettings
from wsi_kd.settings.base import Section
from wsi_kd.settings.faults import parse, read_mapping
from wsi_kd.settings.models import SplitSettings, TrainSettings
from wsi_kd.settings.results import EvaluateSettings, PredictSettings, QcSettings, ReportSettings
from wsi_kd.settings.run import RunSettings
from wsi_kd.settings.slides import EmbedSettings, MaskSettings, SlidesSettings, TileSettings
from wsi_kd.settings.stain import StainSettings


class Settings(Section):
    """Every section; each has defaults, so an empty file is a valid one."""

    run: RunSettings = RunSettings()
    slides: SlidesSettings = SlidesSettings()
    mask: MaskSettings = MaskSettings()
    tile: TileSettings = TileSettings()
    stain: StainSettings = StainSettings()
    embed: EmbedSettings = EmbedSettings()
    adopt: AdoptSettings = AdoptSettings()
    qc: QcSettings = QcSettings()
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
    return parse(Settings, value, where=where)


def read_settings(path: Path) -> Settings:
    """Read a YAML (or JSON) settings file."""
    return parse_settings(read_mapping(path, such_as="tile"), where=str(path))


def parse_json_settings(text: str) -> Settings:
    """Parse the `--settings` argument: a JSON object of sections, absent ones at their defaults."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"--settings: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadInput(f"--settings: expected a JSON object of sections, found {type(value).__name__}")
    return parse_settings(value, where="--settings")


def sections_json(settings: Settings, *names: str) -> str:
    """Return the named sections as canonical JSON: the text that a rule hands to its command."""
    value = {name: getattr(settings, name).model_dump(mode="json") for name in names}
    return json.dumps(value, sort_keys=True, separators=(",", ":"))

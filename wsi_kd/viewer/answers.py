"""The viewer's answers as JSON values: the run, its slides, one slide's tile scores. Numbers only, no NaN."""

import json
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from wsi_kd.core.provenance import RESEARCH_ONLY
from wsi_kd.inference.mappings import MappedTiles, mapping_keys, tile_mapping
from wsi_kd.inference.tables import TileTable
from wsi_kd.report.overlay import palette
from wsi_kd.viewer.record import ModelAnswer, Viewed, ViewedSlide

COLORMAP: Final = "viridis"
DIGITS: Final = 8
"""Significant digits of a tile score: a heatmap, a table and the viewer agree to 1e-6."""


def to_json(value: object) -> bytes:
    """Write JSON in ASCII, `<` escaped: hostile text stays text in whatever it is put into.

    Raises:
        ValueError: a number that is not finite, which JSON does not have.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").encode("ascii")


def run_answer(viewed: Viewed) -> dict[str, Any]:
    """Describe the run: classes, models, what is uncertain, and the 256 colors of the overlay."""
    colors = np.rint(255 * palette(COLORMAP)).astype(int).tolist()
    return {
        "title": viewed.title,
        "research_only": RESEARCH_ONLY,
        "classes": list(viewed.classes),
        "positive": list(viewed.classes[1:]),
        "models": [model._asdict() for model in viewed.models],
        "uncertainty": viewed.uncertainty._asdict(),
        "colormap": [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in colors],
        "report": viewed.report is not None,
    }


def slides_answer(slides: Sequence[ViewedSlide]) -> list[dict[str, Any]]:
    """List every slide with its status and what each model says of it."""
    return [
        {
            "index": index,
            "slide_id": slide.slide_id,
            "status": slide.status,
            "reason": slide.reason,
            "step": slide.step,
            "label": slide.label,
            "site": slide.site,
            "models": [_answer(answer) for answer in slide.answers],
        }
        for index, slide in enumerate(slides)
    ]


def scores_answer(tiles: TileTable, *, origin: tuple[int, int], classes: Sequence[str]) -> dict[str, Any]:
    """Give a slide's tiles and all their mappings.

    Args:
        tiles: scores and positions, level-0 frame.
        origin: corner of the slide's bounds, level-0 pixels; x and y are counted from it.
        classes: in order, the negative one first.
    """
    labels = tiles.tile_labels
    x, y = (tiles.coords - np.asarray(origin)).T.tolist()
    keys = mapping_keys(tiles, classes=classes)
    return {
        "tiles": len(tiles.coords),
        "edge": tiles.tile_level0_px,
        "x": x,
        "y": y,
        "mappings": [_mapping(tile_mapping(tiles, key, classes=classes)) for key in keys],
        "tile_label": labels.tolist() if (labels >= 0).any() else None,
    }


def finite(value: float | None) -> float | None:
    """Return a number that JSON has, else None.

    >>> finite(0.5), finite(float("nan")), finite(None)
    (0.5, None, None)
    """
    return value if value is not None and math.isfinite(value) else None


def _answer(answer: ModelAnswer) -> dict[str, Any]:
    numbers = {name: finite(getattr(answer, name)) for name in ("teacher", "student", "uncertain")}
    thresholds = {score: finite(value) for score, value in answer.thresholds.items()}
    return {**answer._asdict(), **numbers, "thresholds": thresholds}


def _mapping(mapped: MappedTiles) -> dict[str, Any]:
    return {
        "key": mapped.key,
        "name": mapped.name,
        "unit": mapped.unit,
        "meaning": mapped.meaning,
        "vmin": mapped.vmin,
        "vmax": mapped.vmax,
        "values": _rounded(mapped.scores),
    }


def _rounded(scores: Float[np.ndarray, "tiles"]) -> list[float | None]:
    return [float(f"{score:.{DIGITS}g}") if math.isfinite(score) else None for score in scores.tolist()]

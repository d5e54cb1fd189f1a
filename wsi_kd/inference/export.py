"""What leaves the house for one slide: tiles.geojson for QuPath.

It holds no path, no metadata of the slide and no image: a slide's id is all that could name a patient.
"""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from wsi_kd.core.files import publish
from wsi_kd.inference.attention import attention_percentile
from wsi_kd.inference.calls import positive_name
from wsi_kd.inference.tables import BINARY, TileTable

TILE_NAMESPACE = uuid.UUID("6f0f2b0e-6a3c-5f43-9a53-0a1f1c7d2b11")
POSITIVE_COLOR, NEGATIVE_COLOR = (200, 40, 40), (70, 110, 190)
TILE_THRESHOLD = 0.5
"""Tiles have no threshold of their own: the classification in QuPath is at a tile probability of one half."""


def write_tiles_geojson(
    path: Path, tiles: TileTable, *, slide_id: str, origin: tuple[int, int], classes: Sequence[str]
) -> None:
    """Write a FeatureCollection that opens in QuPath: one tile object a tile, its scores as measurements.

    A score that is not finite is left out: JSON has no word for it.

    Args:
        path: the file.
        tiles: scores and positions, level-0 frame.
        slide_id: part of every tile's id: uuid5 of slide and position, so equal runs give equal files.
        origin: corner of the slide's bounds (level 0); QuPath counts from it, so it is subtracted.
        classes: in order, the negative one first.
    """
    likely = tiles.evidence_score if tiles.student_score is None else tiles.student_score
    columns = _measurements(tiles, classes)
    rows = zip(tiles.coords.tolist(), likely.tolist(), zip(*columns.values(), strict=True), strict=True)
    publish_features(
        path,
        (
            _tile_feature(
                slide_id,
                corner=(x, y),
                origin=origin,
                edge=tiles.tile_level0_px,
                classification=_classification(probability, classes),
                measurements=dict(zip(columns, values, strict=True)),
            )
            for (x, y), probability, values in rows
        ),
    )


def publish_features(path: Path, features: Iterable[Mapping[str, Any]]) -> None:
    """Write a GeoJSON FeatureCollection, one feature a line; only one is in memory at a time."""
    with publish(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        handle.write('{"type":"FeatureCollection","features":[')
        for index, feature in enumerate(features):
            text = json.dumps(feature, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
            handle.write(f"{',' if index else ''}\n{text}")
        handle.write("\n]}\n")


def _tile_feature(
    slide_id: str,
    *,
    corner: tuple[int, int],
    origin: tuple[int, int],
    edge: float,
    classification: Mapping[str, Any],
    measurements: Mapping[str, float],
) -> dict[str, Any]:
    left, top = corner[0] - origin[0], corner[1] - origin[1]
    right, bottom = left + edge, top + edge
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(TILE_NAMESPACE, f"{slide_id}:{corner[0]}:{corner[1]}")),
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {
            "objectType": "tile",
            **classification,
            "measurements": {name: value for name, value in measurements.items() if isfinite(value)},
        },
    }


def _classification(probability: float, classes: Sequence[str]) -> dict[str, Any]:
    """Say how positive a tile is: by the student, or without one by the evidence; nothing without a score."""
    if not isfinite(probability):
        return {}
    positive = probability >= TILE_THRESHOLD
    name = positive_name(classes) if positive else classes[0]
    return {"classification": {"name": name, "color": list(POSITIVE_COLOR if positive else NEGATIVE_COLOR)}}


def _measurements(tiles: TileTable, classes: Sequence[str]) -> dict[str, list[float]]:
    """Name the tiles' numbers as QuPath shows them; of more than two classes each has its own columns."""
    values = {"Attention (softmax)": tiles.attention.tolist()}
    if tiles.attention_logits is not None:
        values["Attention logit (raw)"] = tiles.attention_logits.tolist()
    values["Attention percentile"] = attention_percentile(tiles.attention).tolist()
    endings = [""] if len(classes) == BINARY else [f": {name}" for name in classes[1:]]
    for heading, scores in (
        ("Teacher evidence probability", tiles.evidence),
        ("Student probability", tiles.student_probability),
    ):
        if scores is not None:
            columns = zip(endings, scores.T, strict=True)
            values |= {f"{heading}{ending}": column.tolist() for ending, column in columns}
    return values

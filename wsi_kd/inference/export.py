"""What leaves the house for one slide: tiles.geojson for QuPath and prediction.json.

Neither holds a path, a slide's metadata or an image: a slide's id and file name are all that could name a
patient.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from wsi_kd.core.files import publish_json, publish_text
from wsi_kd.core.provenance import RESEARCH_ONLY, stamp
from wsi_kd.core.records import SlideStatus
from wsi_kd.inference.attention import attention_percentile
from wsi_kd.inference.calls import positive_name, slide_call
from wsi_kd.inference.likeness import UNLIKE, is_unlike_training
from wsi_kd.inference.predict import SlidePrediction
from wsi_kd.inference.tables import BINARY, TileTable

TILE_NAMESPACE = uuid.UUID("6f0f2b0e-6a3c-5f43-9a53-0a1f1c7d2b11")
POSITIVE_COLOR, NEGATIVE_COLOR = (200, 40, 40), (70, 110, 190)
TILE_THRESHOLD = 0.5
"""Tiles have no threshold of their own: the classification in QuPath is at a tile probability of one half."""

CALLED_SCORES = ("teacher", "student")
"""Scores that a slide is called by; the student's by the pooling that the settings deploy. Probabilities are
given by either pooling."""

SLIDE_KEYS = (
    "slide_file",
    "fingerprint",
    "slide_mpp",
    "mpp_source",
    "level0_width",
    "level0_height",
    "tissue_mm2",
    "tile_px",
    "tile_mpp",
    "overlap_px",
    "damaged_tiles",
    "encoder",
    "weights_hash",
    "feature_dim",
)
"""Members of a feature file's header that a prediction repeats; no other metadata of a slide is written."""

MODEL_KEYS = ("recipe", "teacher", "seed", "fold", "epoch", "weights_sha256", "student_pooling", "top_k")
PATH_KEYS = frozenset(
    {
        "network",
        "weights",
        "weights_dir",
        "edited_dir",
        "folder",
        "given",
        "manifest",
        "slides_dir",
        "results_dir",
        "target",
    }
)


class SlideOutcome(NamedTuple):
    """How one slide ended, with its scores where there are any."""

    slide_id: str
    status: SlideStatus
    reason: str
    tiles: int
    prediction: SlidePrediction | None


def write_tiles_geojson(
    path: Path, tiles: TileTable, *, slide_id: str, origin: tuple[int, int], classes: Sequence[str]
) -> None:
    """Write a FeatureCollection that opens in QuPath: one tile object a tile, its scores as measurements.

    Args:
        path: the file.
        tiles: scores and positions, level-0 frame.
        slide_id: part of every tile's id: uuid5 of slide and position, so equal runs give equal files.
        origin: corner of the slide's bounds (level 0); QuPath counts from it, so it is subtracted.
        classes: in order, the negative one first.
    """
    percentiles = attention_percentile(tiles.attention)
    features = [
        _tile_feature(
            slide_id,
            corner=(int(x), int(y)),
            origin=origin,
            edge=tiles.tile_level0_px,
            name=_tile_class(tiles, index, classes),
            positive=_tile_probability(tiles, index) >= TILE_THRESHOLD,
            measurements=_measurements(tiles, index, percentile=float(percentiles[index]), classes=classes),
        )
        for index, (x, y) in enumerate(tiles.coords)
    ]
    collection = {"type": "FeatureCollection", "features": features}
    publish_text(
        path, json.dumps(collection, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"
    )


def write_prediction_json(
    path: Path,
    outcome: SlideOutcome,
    *,
    slide_header: Mapping[str, Any],
    model_header: Mapping[str, Any],
    files: Mapping[str, str],
) -> None:
    """Write the answer on one slide: probabilities, calls, thresholds and their origin, provenance, status.

    Args:
        path: the file.
        outcome: status and scores; a failed slide has a status and a reason only.
        slide_header: of the slide's features (or of the last step that it reached).
        model_header: of the checkpoint.
        files: name and sha256 of the files written beside it.
    """
    publish_json(
        path,
        {
            **stamp("prediction", without_paths(model_header["sections"])),
            "slide_id": outcome.slide_id,
            "status": str(outcome.status),
            "reason": outcome.reason,
            "classes": list(model_header["classes"]),
            **_answers(outcome.prediction, model_header),
            "tiles": outcome.tiles,
            "slide": {key: slide_header[key] for key in SLIDE_KEYS if key in slide_header},
            "model": {key: model_header.get(key) for key in MODEL_KEYS},
            "files": dict(files),
            "research_only": RESEARCH_ONLY,
        },
    )


def without_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections with each path cut to its last part: folders may be named after people."""
    return {
        section: {
            key: Path(value).name if key in PATH_KEYS and value is not None else value
            for key, value in values.items()
        }
        for section, values in settings.items()
    }


def _answers(prediction: SlidePrediction | None, model_header: Mapping[str, Any]) -> dict[str, Any]:
    classes = list(model_header["classes"])
    thresholds = {
        score: {
            "value": model_header["thresholds"].get(score),
            "rule": model_header["threshold_rule"],
            "chosen_on": model_header["threshold_split"],
        }
        for score in CALLED_SCORES
    }
    if prediction is None:
        return {"probabilities": {}, "calls": {}, "thresholds": thresholds, "likeness": {}}
    student = prediction.student
    found = {"teacher": prediction.teacher_probability}
    if student is not None:
        found |= {"student": student.deployed, "student_max": student.by_max, "student_topk": student.by_topk}
    probabilities = {
        score: dict(zip(classes, values.tolist(), strict=True)) for score, values in found.items()
    }
    calls = {
        score: slide_call(found[score], classes=classes, threshold=thresholds[score]["value"])
        for score in CALLED_SCORES
        if score in found
    }
    return {
        "probabilities": probabilities,
        "calls": calls,
        "thresholds": thresholds,
        "likeness": _likeness(prediction),
    }


def _likeness(prediction: SlidePrediction) -> dict[str, Any]:
    return {
        "feature_distance": prediction.feature_distance,
        "unlike_training": is_unlike_training(prediction),
        "meaning": "median over tiles of the root mean square z-score by the training tiles' moments; usual: "
        f"1; over {UNLIKE:g} stain, scanner or tissue differ from the training: do not trust the answer",
    }


def _tile_feature(
    slide_id: str,
    *,
    corner: tuple[int, int],
    origin: tuple[int, int],
    edge: float,
    name: str,
    positive: bool,
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
            "classification": {"name": name, "color": list(POSITIVE_COLOR if positive else NEGATIVE_COLOR)},
            "measurements": dict(measurements),
        },
    }


def _tile_probability(tiles: TileTable, index: int) -> float:
    """Say how positive a tile is: by the student, or without one by the evidence."""
    scores = tiles.evidence_score if tiles.student_score is None else tiles.student_score
    return float(scores[index])


def _tile_class(tiles: TileTable, index: int, classes: Sequence[str]) -> str:
    return positive_name(classes) if _tile_probability(tiles, index) >= TILE_THRESHOLD else classes[0]


def _measurements(
    tiles: TileTable, index: int, *, percentile: float, classes: Sequence[str]
) -> dict[str, float]:
    """Name a tile's numbers as QuPath shows them; of more than two classes each has its own."""
    values = {"Attention (softmax)": float(tiles.attention[index]), "Attention percentile": percentile}
    endings = [""] if len(classes) == BINARY else [f": {name}" for name in classes[1:]]
    for heading, scores in (
        ("Teacher evidence probability", tiles.evidence),
        ("Student probability", tiles.student_probability),
    ):
        if scores is not None:
            row = scores[index].tolist()
            values |= {f"{heading}{ending}": value for ending, value in zip(endings, row, strict=True)}
    return values

"""The two tables of scores: one row a slide, one row a tile. Written and read here only.

Numbers are written with as many digits as float64 needs to come back unchanged.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import check_table, publish_table, read_table
from wsi_kd.core.provenance import check_schema
from wsi_kd.core.shapes import Coords, TileLabels
from wsi_kd.inference.attention import attention_percentile
from wsi_kd.inference.predict import SlidePrediction, TileScores

REMAKE = "wsi-kd predict"
SLIDE_COLUMNS = (
    "slide_id",
    "case_id",
    "site",
    "label",
    "part",
    "teacher_probability",
    "student_probability",
    "teacher_call",
    "student_call",
    "threshold_teacher",
    "threshold_student",
)


class PredictionRow(NamedTuple):
    """One slide's scores by one model; the student's fields are None and "" for a model without student."""

    slide_id: str
    case_id: str
    site: str
    label: str
    part: str
    """val or test."""
    teacher_probability: float
    """Of any class but the first."""
    student_probability: float | None
    teacher_call: str
    student_call: str
    threshold_teacher: float
    threshold_student: float | None
    class_probabilities: tuple[float, ...]
    """The teacher's, in the order of the classes; columns `probability_<class>`."""


class PredictionTable(NamedTuple):
    """All rows of one model, and the header that says which model."""

    rows: tuple[PredictionRow, ...]
    header: dict[str, Any]


class TileTable(NamedTuple):
    """Scores of one slide's tiles; `tile_labels` is -1 where unknown."""

    coords: Coords
    tile_level0_px: float
    attention: TileScores
    evidence: TileScores
    student_probability: TileScores | None
    tile_labels: TileLabels


def write_predictions(
    path: Path, rows: Sequence[PredictionRow], *, classes: Sequence[str], header: Mapping[str, Any]
) -> None:
    """Write predictions.csv and its sidecar: `header`, a stamp of kind `predictions` and model facts."""
    columns = (*SLIDE_COLUMNS, *(f"probability_{name}" for name in classes))
    values = ((*("" if value is None else value for value in row[:-1]), *row[-1]) for row in rows)
    publish_table(path, columns, values, stamp={**header, "classes": list(classes)})


def read_predictions(path: Path) -> PredictionTable:
    """Read a table written by `write_predictions`.

    Raises:
        BadInput: absent, damaged, or of another version, with the command that makes it anew.
    """
    header = check_table(path, remake=REMAKE)
    check_schema(header, "predictions", where=path, remake=REMAKE)
    rows = tuple(_prediction_row(row, header["classes"]) for row in read_table(path, remake=REMAKE))
    return PredictionTable(rows, header)


def tile_table(
    prediction: SlidePrediction, *, coords: Coords, tile_level0_px: float, tile_labels: TileLabels
) -> TileTable:
    """Put a prediction beside its tiles."""
    return TileTable(
        coords=coords,
        tile_level0_px=tile_level0_px,
        attention=prediction.attention,
        evidence=prediction.evidence,
        student_probability=prediction.student_tile_probability,
        tile_labels=tile_labels,
    )


def write_tiles_csv(path: Path, tiles: TileTable, *, header: Mapping[str, Any]) -> None:
    """Write one row a tile and the sidecar: `header`, a stamp of kind `tile_scores`.

    The columns `student_probability` and `tile_label` are left out where there is nothing to tell.
    """
    edge = [tiles.tile_level0_px] * len(tiles.coords)
    columns: dict[str, list[Any]] = {
        "x_level0_px": tiles.coords[:, 0].tolist(),
        "y_level0_px": tiles.coords[:, 1].tolist(),
        "width_level0_px": edge,
        "height_level0_px": edge,
        "attention": tiles.attention.tolist(),
        "attention_percentile": attention_percentile(tiles.attention).tolist(),
        "evidence": tiles.evidence.tolist(),
    }
    if tiles.student_probability is not None:
        columns["student_probability"] = tiles.student_probability.tolist()
    if (tiles.tile_labels >= 0).any():
        columns["tile_label"] = tiles.tile_labels.tolist()
    publish_table(path, tuple(columns), zip(*columns.values(), strict=True), stamp=header)


def read_tiles_csv(path: Path) -> TileTable:
    """Read a table written by `write_tiles_csv`.

    Raises:
        BadInput: absent, damaged, or of another version, with the command that makes it anew.
    """
    header = check_table(path, remake=REMAKE)
    check_schema(header, "tile_scores", where=path, remake=REMAKE)
    with path.open(encoding="utf-8", newline="") as handle:
        names = next(csv.reader(handle))
        values = np.loadtxt(handle, delimiter=",", ndmin=2, dtype=np.float64)
    if values.shape[1:] != (len(names),) or not len(values):
        raise BadInput(f"{path}: no tiles; make it anew with: {REMAKE}")
    columns = dict(zip(names, values.T, strict=True))
    unknown = np.full(len(values), -1.0)
    return TileTable(
        coords=values[:, :2].astype(np.int64),
        tile_level0_px=float(columns["width_level0_px"][0]),
        attention=columns["attention"],
        evidence=columns["evidence"],
        student_probability=columns.get("student_probability"),
        tile_labels=columns.get("tile_label", unknown).astype(np.int8),
    )


def _prediction_row(row: Mapping[str, str], classes: Sequence[str]) -> PredictionRow:
    return PredictionRow(
        slide_id=row["slide_id"],
        case_id=row["case_id"],
        site=row["site"],
        label=row["label"],
        part=row["part"],
        teacher_probability=float(row["teacher_probability"]),
        student_probability=_number(row["student_probability"]),
        teacher_call=row["teacher_call"],
        student_call=row["student_call"],
        threshold_teacher=float(row["threshold_teacher"]),
        threshold_student=_number(row["threshold_student"]),
        class_probabilities=tuple(float(row[f"probability_{name}"]) for name in classes),
    )


def _number(text: str) -> float | None:
    return float(text) if text else None

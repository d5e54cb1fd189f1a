"""The two tables of scores: one row a slide, one row a tile. Written and read here only.

Numbers are written with as many digits as float64 needs to come back unchanged.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import check_table, publish_table, read_table
from wsi_kd.core.provenance import check_schema
from wsi_kd.core.shapes import Coords, TileLabels
from wsi_kd.inference.attention import attention_percentile
from wsi_kd.inference.slide_prediction import SlidePrediction, TileClassScores, TileScores

REMAKE = "wsi-kd predict"
SLIDE_COLUMNS = (
    "slide_id",
    "case_id",
    "site",
    "label",
    "part",
    "teacher_probability",
    "student_probability",
    "student_max_probability",
    "student_topk_probability",
    "teacher_call",
    "student_call",
    "threshold_teacher",
    "threshold_student",
    "threshold_student_max",
    "threshold_student_topk",
    "feature_distance",
    "out_of_distribution",
)
"""Columns of predictions.csv that do not name a class, as the fields of `PredictionRow`."""

CLASS_FIELDS = (
    ("class_probabilities", "probability_"),
    ("student_class_probabilities", "student_probability_"),
    ("student_max_class_probabilities", "student_max_probability_"),
    ("student_topk_class_probabilities", "student_topk_probability_"),
)
"""Fields that hold one number a class, and how their columns begin."""

BINARY = 2
TRUE, FALSE = "true", "false"


class PredictionRow(NamedTuple):
    """One slide's scores by one model; the student's fields are None and "" for a model without student.

    Probabilities without a class in their name are those of any class but the first.
    """

    slide_id: str
    case_id: str
    site: str
    label: str
    part: str
    """val or test."""
    teacher_probability: float
    student_probability: float | None
    """By the pooling that the model's settings deploy: one of the two below."""
    student_max_probability: float | None
    student_topk_probability: float | None
    teacher_call: str
    student_call: str
    threshold_teacher: float
    threshold_student: float | None
    threshold_student_max: float | None
    threshold_student_topk: float | None
    feature_distance: float
    """How unlike the training tiles, see `SlidePrediction`."""
    out_of_distribution: bool
    """Whether that is beyond the model's limit; `true` or `false` in the file."""
    class_probabilities: tuple[float, ...]
    """The teacher's, in the order of the classes; columns `probability_<class>`."""
    student_class_probabilities: tuple[float, ...] = ()
    """Columns `student_probability_<class>`, as the two below only of more than two classes: () of two, where
    `student_probability` says all."""
    student_max_class_probabilities: tuple[float, ...] = ()
    student_topk_class_probabilities: tuple[float, ...] = ()


class PredictionTable(NamedTuple):
    """All rows of one model, and the header that says which model."""

    rows: tuple[PredictionRow, ...]
    header: dict[str, Any]


class TileTable(NamedTuple):
    """Scores of one slide's tiles; `tile_labels` is -1 where unknown."""

    coords: Coords
    tile_level0_px: float
    attention: TileScores
    branch_attention: Float64[np.ndarray, "tiles classes"] | None
    """Of more than two classes, by a teacher with one branch a class; else None."""
    evidence: TileClassScores
    student_probability: TileClassScores | None
    tile_labels: TileLabels
    attention_logits: TileScores | None = None
    """Attention before the softmax, column `attention_logit`; None where the table does not hold it."""

    @property
    def evidence_score(self) -> TileScores:
        """Evidence of any positive class: the sum over them, for classes of a softmax exclude each other."""
        return np.asarray(self.evidence.sum(axis=1))

    @property
    def student_score(self) -> TileScores | None:
        """The student's score of any positive class: the largest, each being one against all others.

        The column of the slide's own class would not do: it tells the score what the slide's label is.
        """
        return None if self.student_probability is None else self.student_probability.max(axis=1)


def prediction_columns(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a table of predictions; of two classes the student has one number a slide."""
    fields = CLASS_FIELDS if len(classes) > BINARY else CLASS_FIELDS[:1]
    return (*SLIDE_COLUMNS, *(f"{start}{name}" for _, start in fields for name in classes))


def prediction_cells(row: PredictionRow, classes: Sequence[str]) -> list[Any]:
    """Return a row's cells in the order of `prediction_columns`."""
    values = [getattr(row, column) for column in SLIDE_COLUMNS]
    for field, _ in CLASS_FIELDS if len(classes) > BINARY else CLASS_FIELDS[:1]:
        values += getattr(row, field) or [None] * len(classes)
    return [_cell(value) for value in values]


def write_predictions(
    path: Path, rows: Sequence[PredictionRow], *, classes: Sequence[str], header: Mapping[str, Any]
) -> None:
    """Write predictions.csv and its sidecar: `header`, a stamp of kind `predictions` and model facts."""
    cells = (prediction_cells(row, classes) for row in rows)
    publish_table(path, prediction_columns(classes), cells, stamp={**header, "classes": list(classes)})


def read_predictions(path: Path) -> PredictionTable:
    """Read a table written by `write_predictions`.

    Raises:
        BadInput: absent, damaged, or of another version, with the command that makes it anew.
    """
    header = check_table(path, remake=REMAKE)
    check_schema(header, "predictions", where=path, remake=REMAKE)
    rows = tuple(prediction_row(row, header["classes"]) for row in read_table(path, remake=REMAKE))
    return PredictionTable(rows, header)


def tile_table(
    prediction: SlidePrediction, *, coords: Coords, tile_level0_px: float, tile_labels: TileLabels
) -> TileTable:
    """Put a prediction beside its tiles."""
    many = len(prediction.teacher_probability) > BINARY
    return TileTable(
        coords=coords,
        tile_level0_px=tile_level0_px,
        attention=prediction.attention,
        branch_attention=prediction.branch_attention if many else None,
        evidence=prediction.evidence,
        student_probability=None if prediction.student is None else prediction.student.tiles,
        tile_labels=tile_labels,
        attention_logits=prediction.attention_logits,
    )


def write_tiles_csv(
    path: Path, tiles: TileTable, *, classes: Sequence[str], header: Mapping[str, Any]
) -> None:
    """Write one row a tile and the sidecar: `header`, a stamp of kind `tile_scores`.

    Of two classes the columns `evidence` and `student_probability` are those of the second; of more there is
    one for each but the first, `evidence_<class>`. The columns `student_probability` and `tile_label` are
    left out where there is nothing to tell.
    """
    edge = [tiles.tile_level0_px] * len(tiles.coords)
    columns: dict[str, list[Any]] = {
        "x_level0_px": tiles.coords[:, 0].tolist(),
        "y_level0_px": tiles.coords[:, 1].tolist(),
        "width_level0_px": edge,
        "height_level0_px": edge,
        "attention": tiles.attention.tolist(),
        "attention_percentile": attention_percentile(tiles.attention).tolist(),
        **({} if tiles.attention_logits is None else {"attention_logit": tiles.attention_logits.tolist()}),
        **_class_columns("branch_attention", tiles.branch_attention, classes),
        **_class_columns("evidence", tiles.evidence, classes[1:]),
        **_class_columns("student_probability", tiles.student_probability, classes[1:]),
    }
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
    evidence = _joined(columns, "evidence")
    if evidence is None:
        raise BadInput(f"{path}: no column of evidence; make it anew with: {REMAKE}")
    unknown = np.full(len(values), -1.0)
    return TileTable(
        coords=values[:, :2].astype(np.int64),
        tile_level0_px=float(columns["width_level0_px"][0]),
        attention=columns["attention"],
        branch_attention=_joined(columns, "branch_attention"),
        evidence=evidence,
        student_probability=_joined(columns, "student_probability"),
        tile_labels=columns.get("tile_label", unknown).astype(np.int8),
        attention_logits=columns.get("attention_logit"),
    )


def _class_columns(
    name: str, values: TileClassScores | None, classes: Sequence[str]
) -> dict[str, list[float]]:
    if values is None:
        return {}
    names = [name] if len(classes) == 1 else [f"{name}_{label}" for label in classes]
    return {column: scores.tolist() for column, scores in zip(names, values.T, strict=True)}


def _joined(columns: Mapping[str, TileScores], name: str) -> TileClassScores | None:
    found = [values for column, values in columns.items() if column == name or column.startswith(f"{name}_")]
    return np.stack(found, axis=1) if found else None


def prediction_row(row: Mapping[str, str], classes: Sequence[str]) -> PredictionRow:
    """Read one line of a table of predictions: the inverse of `prediction_cells`."""
    texts = {column: row[column] for column in SLIDE_COLUMNS if not _is_number(column)}
    numbers = {column: _number(row[column]) for column in SLIDE_COLUMNS if _is_number(column)}
    by_class = {
        field: tuple(float(row[f"{start}{name}"]) for name in classes)
        for field, start in CLASS_FIELDS
        if row.get(f"{start}{classes[0]}")
    }
    flag = {"out_of_distribution": row["out_of_distribution"] == TRUE}
    fields: dict[str, Any] = {**texts, **numbers, **flag, **by_class}
    return PredictionRow(**fields)


def _is_number(column: str) -> bool:
    return column.endswith(("_probability", "_distance")) or column.startswith("threshold_")


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return TRUE if value else FALSE
    return "" if value is None else value


def _number(text: str) -> float | None:
    return float(text) if text else None

"""The table of an output folder: one row a slide, made of the prediction.json files below it alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish_table
from wsi_kd.core.provenance import stamp
from wsi_kd.inference.prediction_record import CALLED_SCORES
from wsi_kd.inference.prediction_schema import PredictionRecord
from wsi_kd.inference.tables import BINARY
from wsi_kd.steps.infer_result import PREDICTION, read_prediction, status_of

PREDICTIONS: Final = "predictions.csv"
KIND: Final = "inferred_predictions"
SCORES: Final = ("teacher", "student", "student_max", "student_topk")


def write_inferred(out_dir: Path, *, weights: Sequence[str]) -> int:
    """Write `predictions.csv`: every slide of the folder that these models scored, or failed on.

    The table follows from the slides' own files, so it is complete after a run that went on where another
    was killed. Answers of other models, and damaged ones, are left out.

    Args:
        out_dir: folder of the slides' folders.
        weights: the models' `weights_sha256`, in order.

    Returns:
        How many rows it has.

    Raises:
        RunFailed: the table could not be written.
    """
    records = [record for record in _records(out_dir) if weights_of(record) == list(weights)]
    if not records:
        return 0
    first = records[0]
    described = {
        **stamp(KIND, first["settings"]),
        "classes": first["classes"],
        "models": first["models"],
        "research_only": first["research_only"],
    }
    rows = [inferred_row(record) for record in records]
    publish_table(
        out_dir / PREDICTIONS, tuple(rows[0]), [list(row.values()) for row in rows], stamp=described
    )
    return len(rows)


def weights_of(record: PredictionRecord) -> list[str]:
    """Return which models made a record."""
    return [model["weights_sha256"] for model in record["models"]]


def inferred_row(record: PredictionRecord) -> dict[str, Any]:
    """Return a slide's cells by column; what a slide or a model does not have is empty.

    Probabilities without a class in their name are those of any class but the first, as in the tables of
    predict.
    """
    classes, status = record["classes"], status_of(record)
    likeness, spread = record["out_of_distribution"], record["uncertainty"]["spread"]
    cells: dict[str, Any] = {
        "slide_id": status.slide_id,
        "status": str(status.status),
        "reason": status.reason,
        "step": status.step,
    }
    for score in SCORES:
        of_class = record["probabilities"].get(score, {})
        cells[f"{score}_probability"] = sum(of_class[name] for name in classes[1:]) if of_class else None
    for score in CALLED_SCORES:
        cells[f"{score}_call"] = record["calls"].get(score)
        cells[f"threshold_{score}"] = record["thresholds"][score]["value"]
    for score in CALLED_SCORES:
        cells[f"{score}_probability_sd"] = spread[score]["sd"] if score in spread else None
    cells |= {
        "models": record["uncertainty"]["models"],
        "feature_distance": likeness and likeness["feature_distance"],
        "feature_distance_limit": likeness and likeness["limit"],
        "out_of_distribution": likeness and str(likeness["flag"]).lower(),
        "tiles": status.tiles,
        "tiles_laid": status.tiles_laid,
        "tissue_mm2": status.tissue_mm2,
        "slide_mpp": status.slide_mpp,
        "mpp_source": status.mpp_source,
        "seconds": status.seconds,
        **_class_cells(record),
    }
    return {name: "" if value is None else value for name, value in cells.items()}


def _class_cells(record: PredictionRecord) -> dict[str, float | None]:
    """Return the probability of each class: the teacher's, and of more than two classes the student's too."""
    classes = record["classes"]
    headings: Mapping[str, str] = {"teacher": "probability_"}
    if len(classes) > BINARY:
        headings = {**headings, "student": "student_probability_"}
    return {
        f"{start}{name}": record["probabilities"].get(score, {}).get(name)
        for score, start in headings.items()
        for name in classes
    }


def _records(out_dir: Path) -> list[PredictionRecord]:
    records = []
    for path in sorted(out_dir.glob(f"*/{PREDICTION}")):
        try:
            records.append(read_prediction(path))
        except BadInput:
            continue  # of another version, or damaged: --resume makes it anew
    return records

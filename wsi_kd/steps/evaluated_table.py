"""The test slides of all models in one table, with what seeds disagree on."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from wsi_kd.core.files import publish_table
from wsi_kd.core.provenance import stamp
from wsi_kd.inference.tables import prediction_cells, prediction_columns
from wsi_kd.steps.scored_models import ModelPredictions

MODEL_COLUMNS: Final = ("recipe", "seed", "fold")
SPREAD_COLUMNS: Final = ("teacher_probability_sd", "student_probability_sd")
"""Standard deviation (n - 1) over the seeds that test the slide in this fold; empty for one seed.

Seeds, not folds: a slide is tested by the models of one fold alone, those of the other folds were trained or
selected on it.
"""


def write_test_predictions(path: Path, models: Sequence[ModelPredictions], classes: Sequence[str]) -> None:
    """Write the test parts of all models as one table, and its sidecar."""
    columns = (*MODEL_COLUMNS, *prediction_columns(classes), *SPREAD_COLUMNS)
    publish_table(path, columns, _rows(models, classes), stamp=stamp("pooled_predictions", {}))


def _rows(models: Sequence[ModelPredictions], classes: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    scores: dict[tuple[Any, ...], list[float | None]] = defaultdict(list)
    for model in models:
        for row in model.test_rows:
            for column in SPREAD_COLUMNS:
                scores[*_place(model), row.slide_id, column].append(getattr(row, column.removesuffix("_sd")))
    for model in models:
        for row in model.test_rows:
            given = [scores[*_place(model), row.slide_id, column] for column in SPREAD_COLUMNS]
            spread = [_deviation(values) for values in given]
            told = (model.table.header[key] for key in MODEL_COLUMNS)
            yield (*told, *prediction_cells(row, classes), *spread)


def _place(model: ModelPredictions) -> tuple[Any, ...]:
    """Name what models of all seeds share."""
    return model.table.header["recipe"], model.table.header["fold"]


def _deviation(values: Sequence[float | None]) -> float | str:
    known = [value for value in values if value is not None]
    return float(np.std(known, ddof=1)) if len(known) > 1 else ""

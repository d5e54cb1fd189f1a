"""What a report is made from: the numbers a run left behind, as the step read them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from wsi_kd.evaluation.schema import Metrics
from wsi_kd.inference.tables import PredictionRow
from wsi_kd.report.page import Card
from wsi_kd.report.precision_lines import PrecisionLine
from wsi_kd.report.reporting_schema import ReportingItems
from wsi_kd.report.slide_quality import SlideQuality
from wsi_kd.report.timings import JobTiming


class ModelRun(NamedTuple):
    """One trained model: its history and what it says of its test slides."""

    recipe: str
    seed: int
    fold: int
    selected_epoch: int
    history: Mapping[str, Float64[np.ndarray, "epochs"]]
    """By column of history.csv; NaN where an epoch has no value."""
    test: tuple[PredictionRow, ...]

    @property
    def key(self) -> tuple[str, int, int]:
        """Recipe, seed and fold."""
        return self.recipe, self.seed, self.fold


class RunRecord(NamedTuple):
    """Everything the page shows."""

    title: str
    metrics: Metrics
    slides: tuple[SlideQuality, ...]
    models: tuple[ModelRun, ...]
    jobs: tuple[JobTiming, ...]
    cards: tuple[Card, ...]
    settings: Mapping[str, Any]
    """Sections as the artifacts recorded them, not as a settings file says now."""
    git: str
    commands: tuple[str, ...]
    reporting: ReportingItems
    precision: tuple[PrecisionLine, ...] = ()
    """Of `check-precision`, where somebody ran it."""


RECIPE_NAMES = {
    "abmil": "ABMIL",
    "weno": "WENO",
    "instance": "Instance MIL",
    "ins": "INS",
    "mhim": "MHIM",
    "auto": "Auto",
    "distill": "Distilled",
}
SCORE_NAMES = {
    "student_max": "student by maximum",
    "student_topk": "student by top-k mean",
    "attention_evidence": "attention x evidence",
}
"""Where the name is not the word itself."""
BASELINE_NAMES = {
    "bag_mean": "Mean features (baseline)",
    "mean_color": "Mean color (baseline)",
}


def model_name(recipe: str, score: str) -> str:
    """Name one score of one recipe.

    >>> model_name("weno", "student")
    'WENO student'
    """
    return f"{RECIPE_NAMES.get(recipe, recipe)} {SCORE_NAMES.get(score, score)}"


def baseline_name(baseline: str) -> str:
    """Name a baseline."""
    return BASELINE_NAMES.get(baseline, f"{baseline} (baseline)")

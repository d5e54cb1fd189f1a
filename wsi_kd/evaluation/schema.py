"""The structure of `evaluation/metrics.json`: written by evaluate, read by the report and the demo's end.

    Metrics
      classes, positive_classes, cohort            who was measured
      recipes.<recipe>.scores.<score>              ScoreMetrics: slides of the test parts; score: teacher,
                                                   student (the pooling deployed), student_max, student_topk;
                                                   with operating points, calibration, decision curve,
                                                   subgroups, ROC and PR curves
      recipes.<recipe>.instances.<score>           InstanceMetrics: tiles of test slides; score: attention,
                                                   attention_evidence, evidence, student; with FROC
      recipes.<recipe>.last                        summaries of the same two of the last epoch's models
      baselines.<bag_mean|mean_color>              ScoreSummary: what needs no MIL
      comparisons                                  every recipe against the baseline recipe, with p-values

A metric that the data cannot give has the value None (null) and a `reason`; there is no NaN anywhere.
`estimate` of a `PooledMetric` is the mean over seeds of the metric on all test slides of all folds; its
interval resamples cases. Scores of several folds come from several models: `over_folds` is the view that
never compares across models.
"""

from typing import Any, TypedDict

from wsi_kd.evaluation.schema_comparisons import (
    ComparisonRecord,
    Comparisons,
    Difference,
    SeedDifference,
)
from wsi_kd.evaluation.schema_measures import (
    Calibration,
    CalibrationBin,
    CalibrationRecord,
    Curves,
    DecisionCurve,
    Froc,
    FrocCurve,
    FrocPoints,
    OperatingPoint,
    OperatingSeed,
    PrCurve,
    RocCurve,
    Subgroup,
)
from wsi_kd.evaluation.schema_values import (
    ConfusionCounts,
    FoldArea,
    FoldValue,
    MetricValue,
    PooledMetric,
    Spread,
    Summary,
)

__all__ = [
    "INSTANCE_METRICS",
    "SLIDE_METRICS",
    "Calibration",
    "CalibrationBin",
    "CalibrationRecord",
    "Cohort",
    "ComparisonRecord",
    "Comparisons",
    "ConfusionCounts",
    "Curves",
    "DecisionCurve",
    "Difference",
    "FailedSlide",
    "FoldArea",
    "FoldCounts",
    "FoldValue",
    "Froc",
    "FrocCurve",
    "FrocPoints",
    "InstanceMetrics",
    "InstanceRecord",
    "InstanceSummary",
    "LastMeasured",
    "MetricValue",
    "Metrics",
    "ModelRecord",
    "OperatingPoint",
    "OperatingSeed",
    "PooledMetric",
    "PrCurve",
    "RecipeMetrics",
    "RocCurve",
    "ScoreMetrics",
    "ScoreSummary",
    "SeedDifference",
    "SlideRecord",
    "Spread",
    "Stamp",
    "Subgroup",
    "Summary",
]

SLIDE_METRICS = ("roc_auc", "average_precision", "balanced_accuracy", "sensitivity", "specificity", "f1")
"""Keys of `ScoreMetrics.pooled`, `over_seeds`, `over_folds` and of each `SlideRecord`."""

INSTANCE_METRICS = (
    "roc_auc",
    "average_precision",
    "roc_auc_positive_slides",
    "average_precision_positive_slides",
    "roc_auc_within_slide",
    "average_precision_within_slide",
)
"""Keys of `InstanceMetrics.pooled`, `over_seeds`, `over_folds` and of each `InstanceRecord`.

`roc_auc`, `average_precision`: all test tiles with a known label. `..._positive_slides`: tiles of positive
slides alone (the first are dominated by negative slides). `..._within_slide`: mean over slides that have
both labels. Definitions: wsi_kd.evaluation.instance_measures and docs/measures.md.
"""


class SlideRecord(TypedDict):
    """Slide metrics of one seed, on one fold's test part or (fold None) on all of them."""

    seed: int
    fold: int | None
    slides: int
    positives: int
    threshold: float | None
    """None where several folds, each with its own threshold, are pooled."""
    confusion: ConfusionCounts
    roc_auc: MetricValue
    """Two classes: of the positive one; more: macro one-vs-rest."""
    average_precision: MetricValue
    balanced_accuracy: MetricValue
    sensitivity: MetricValue
    specificity: MetricValue
    f1: MetricValue


class ScoreSummary(Summary):
    """Areas and calls of one slide score: all that is told of a baseline and of the last epoch."""

    chance: dict[str, float | None]
    """Average precision of a score without information: the share of positive slides."""
    per_seed: list[SlideRecord]
    per_fold: list[SlideRecord]


class ScoreMetrics(ScoreSummary):
    """One slide score of one recipe's selected models; see `wsi_kd.evaluation.schema_measures`."""

    folds: list[FoldArea]
    operating_points: list[OperatingPoint]
    calibration: Calibration
    decision_curve: DecisionCurve
    subgroups: list[Subgroup]
    curves: Curves


class InstanceRecord(TypedDict):
    """Tile metrics of one seed, on one fold's test part or (fold None) on all of them."""

    seed: int
    fold: int | None
    tiles: int
    positives: int
    slides: int
    roc_auc: MetricValue
    average_precision: MetricValue
    roc_auc_positive_slides: MetricValue
    average_precision_positive_slides: MetricValue
    roc_auc_within_slide: MetricValue
    average_precision_within_slide: MetricValue


class InstanceSummary(Summary):
    """One tile score against the tile labels: all that is told of the last epoch."""

    convention: str
    """What is compared across slides, in words: for attention it is attention times the number of tiles."""
    chance: dict[str, float | None]
    """By metric: average precision of a score without information, the share of positives (AUC: 0.5)."""
    per_seed: list[InstanceRecord]
    per_fold: list[InstanceRecord]


class InstanceMetrics(InstanceSummary):
    """One tile score of one recipe's selected models."""

    folds: list[FoldArea]
    froc: Froc


class ModelRecord(TypedDict):
    """One trained model: where its thresholds and weights come from."""

    seed: int
    fold: int
    epoch: int
    thresholds: dict[str, float | None]
    """By slide score; the student's are None without student."""
    threshold_rule: str
    threshold_split: str
    student_pooling: str
    """max or topk: the one that the slide score `student` is made with."""
    top_k: int
    weights_sha256: str


class LastMeasured(TypedDict):
    """The scores of the last epoch's models."""

    scores: dict[str, ScoreSummary]
    instances: dict[str, InstanceSummary]


class RecipeMetrics(TypedDict):
    """Everything measured of one recipe; scores and instances are of the models selected on validation."""

    scores: dict[str, ScoreMetrics]
    instances: dict[str, InstanceMetrics]
    """Empty where no test tile has a known label."""
    instances_reason: str
    """Why `instances` is empty; else empty itself."""
    models: list[ModelRecord]
    last: LastMeasured
    """Of the last epoch's models: how much the selection matters."""


class FoldCounts(TypedDict):
    """Slides and cases of one part of one fold."""

    fold: int
    part: str
    slides: int
    cases: int
    slides_per_class: dict[str, int]


class FailedSlide(TypedDict):
    """A slide that did not reach training."""

    slide_id: str
    status: str
    reason: str
    step: str


class Cohort(TypedDict):
    """Who went in and who was left out, and why."""

    slides: int
    cases: int
    slides_per_class: dict[str, int]
    unlabeled: int
    """Slides of the manifest without a label; they are scored, not measured."""
    flow: dict[str, int]
    """Slides per status, `ok` included; the numbers sum to `slides`."""
    failed: list[FailedSlide]
    folds: list[FoldCounts]
    tiles: int
    labeled_tiles: int
    positive_tiles: int


class Stamp(TypedDict):
    """What core.provenance.stamp returns."""

    schema_version: int
    kind: str
    settings: dict[str, Any]
    settings_hash: str
    versions: dict[str, str]


class Metrics(Stamp):
    """The whole file, stamp included (kind `metrics`)."""

    classes: list[str]
    positive_classes: list[str]
    """All but the first class: what "positive" means in every binary metric."""
    cohort: Cohort
    recipes: dict[str, RecipeMetrics]
    baselines: dict[str, ScoreSummary]
    comparisons: Comparisons
    research_only: str

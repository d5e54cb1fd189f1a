"""The structure of `evaluation/metrics.json`: written by evaluate, read by the report and the demo's end.

    Metrics
      classes, positive_classes, cohort            who was measured
      recipes.<recipe>.scores.<score>              ScoreMetrics: slides of the test parts; score: teacher,
                                                   student (the pooling deployed), student_max, student_topk
      recipes.<recipe>.instances.<score>           InstanceMetrics: tiles of test slides; score: attention,
                                                   attention_evidence, evidence, student
      recipes.<recipe>.last                        the same two of the last epoch's models
      baselines.<bag_mean|mean_color>              ScoreMetrics: what needs no MIL
      comparisons                                  every recipe against the baseline recipe, with p-values

A metric that the data cannot give has the value None (null) and a `reason`; there is no NaN anywhere.
`estimate` of a `PooledMetric` is the mean over seeds of the metric on all test slides of all folds; its
interval resamples cases. Scores of several folds come from several models: `over_folds` is the view that
never compares across models.
"""

from typing import Any, TypedDict

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


class MetricValue(TypedDict):
    """One number, or None and why."""

    value: float | None
    reason: str


class PooledMetric(TypedDict):
    """Mean over seeds of the metric on the pooled test parts, with the patient bootstrap interval."""

    estimate: float | None
    low: float | None
    high: float | None
    confidence: float
    resamples: int
    redrawn: int
    """Resamples that held one class only and were drawn again."""
    reason: str


class Spread(TypedDict):
    """Mean and sample standard deviation (n - 1) over seeds or over folds; sd is None for one value."""

    mean: float | None
    sd: float | None
    count: int


class ConfusionCounts(TypedDict):
    """Slides by truth and call."""

    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int


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


class Summary(TypedDict):
    """Every metric over all seeds and folds."""

    pooled: dict[str, PooledMetric]
    over_seeds: dict[str, Spread]
    over_folds: dict[str, Spread]
    """Over every fold of every seed."""


class ScoreMetrics(Summary):
    """One slide score of one recipe (or one baseline)."""

    chance: dict[str, float | None]
    """Average precision of a score without information: the share of positive slides."""
    per_seed: list[SlideRecord]
    per_fold: list[SlideRecord]


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


class InstanceMetrics(Summary):
    """One tile score of one recipe against the tile labels."""

    convention: str
    """What is compared across slides, in words: for attention it is attention times the number of tiles."""
    chance: dict[str, float | None]
    """By metric: average precision of a score without information, the share of positives (AUC: 0.5)."""
    per_seed: list[InstanceRecord]
    per_fold: list[InstanceRecord]


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


class Measured(TypedDict):
    """The scores of one recipe's models."""

    scores: dict[str, ScoreMetrics]
    instances: dict[str, InstanceMetrics]
    """Empty where no test tile has a known label."""


class RecipeMetrics(Measured):
    """Everything measured of one recipe; what it inherits is of the models selected on validation."""

    models: list[ModelRecord]
    last: Measured
    """Of the last epoch's models: how much the selection matters."""


class SeedDifference(TypedDict):
    """One seed's difference and p-value; None where undefined."""

    seed: int
    difference: float | None
    p_value: float | None


class Difference(TypedDict):
    """One metric of a recipe's score minus that of the baseline's, on the same test slides of all folds.

    `estimate` is the difference of the means over seeds that the tables show; interval and p-value are of
    that mean, with the models as they are. `over_seeds` tells what another training changes.
    """

    estimate: float | None
    low: float | None
    high: float | None
    confidence: float
    p_value: float | None
    """Two-sided, not corrected for the number of comparisons."""
    test: str
    """DeLong or bootstrap."""
    per_seed: list[SeedDifference]
    """Of the seeds that both have."""
    over_seeds: Spread
    reason: str


class ComparisonRecord(TypedDict):
    """One score of one recipe against one score of another (or of the same) recipe."""

    recipe: str
    score: str
    against_recipe: str
    against_score: str
    metrics: dict[str, Difference]


class Comparisons(TypedDict):
    """Every slide score against the baseline's teacher, every tile score against the baseline's evidence.

    Each student's tile score is also compared with its own teacher's evidence, which costs no distillation.
    """

    baseline: str
    """Recipe that the others are compared with."""
    reason: str
    """Why there is nothing to compare, or empty."""
    slides: list[ComparisonRecord]
    tiles: list[ComparisonRecord]


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
    baselines: dict[str, ScoreMetrics]
    comparisons: Comparisons
    research_only: str

"""What `evaluation/metrics.json` holds of one score beyond areas: calls, calibration, utility, curves, FROC.

Definitions, sources and conventions: docs/measures.md. They are named to the outside by
`wsi_kd.evaluation.schema`. Of more than two classes all of this is about "any class but the first".
"""

from typing import TypedDict

from wsi_kd.evaluation.schema_values import ConfusionCounts, FoldValue, MetricValue, PooledMetric


class OperatingSeed(TypedDict):
    """Calls of one seed's models on all test slides, each fold at its own threshold."""

    seed: int
    confusion: ConfusionCounts
    sensitivity: MetricValue
    specificity: MetricValue
    ppv: MetricValue
    npv: MetricValue


class OperatingPoint(TypedDict):
    """Thresholds by one rule, chosen on each fold's validation slides, and the calls they make on test."""

    rule: str
    """youden, sensitivity, specificity, or checkpoint: the threshold that the model was stored with."""
    target: float | None
    """Sensitivity or specificity that the validation slides had to reach; None for the other rules."""
    chosen_on: str
    """val."""
    thresholds: list[FoldValue]
    per_seed: list[OperatingSeed]
    """[] where a fold has no threshold."""
    confusion: dict[str, float] | None
    """Keys of `ConfusionCounts`: counts summed over folds, mean over seeds."""
    sensitivity: PooledMetric
    specificity: PooledMetric
    ppv: PooledMetric
    """Share of true ones among the positive calls, at the cohort's share of positives."""
    npv: PooledMetric
    reason: str
    """Why there are no calls, or empty."""


class CalibrationBin(TypedDict):
    """Slides of neighboring probability, all seeds together."""

    low: float
    """Smallest and largest probability in the bin."""
    high: float
    count: int
    """Scores in the bin: of S seeds, each slide counts S times."""
    cases: int
    """Different patients in the bin."""
    mean_probability: float
    observed: float
    """Share of positives."""
    observed_low: float
    observed_high: float
    """Wilson's interval of `observed`, with `cases` as its number of trials."""


class CalibrationRecord(TypedDict):
    """How well probabilities agree with frequencies; bins are of equal mass."""

    ece: PooledMetric
    ece_if_calibrated: float | None
    """Mean ECE of labels drawn with these very probabilities: what chance alone makes of so few slides."""
    brier: PooledMetric
    log_loss: PooledMetric
    slope: PooledMetric
    """1 is ideal; below 1: too extreme."""
    intercept: PooledMetric
    """Calibration in the large, with the slope held at 1: 0 is ideal; above 0: too low probabilities."""
    bins: list[CalibrationBin]
    reason: str


class Calibration(TypedDict):
    """Before and after temperature scaling, on all test slides."""

    slides: int
    before: CalibrationRecord
    after: CalibrationRecord
    temperatures: list[FoldValue]
    """Of each model, fitted on its fold's validation slides; above 1: it was too sure."""
    reason: str
    """Why nothing can be said, or empty."""


class DecisionCurve(TypedDict):
    """Net benefit at each threshold probability, mean over seeds; lists are empty where there is a reason."""

    thresholds: list[float]
    model: list[float]
    low: list[float] | None
    """Band of the resampled patients; None where they are too few."""
    high: list[float] | None
    scaled: list[float] | None
    """After temperature scaling; None without it."""
    all: list[float]
    """Treat all."""
    none: float
    """Treat none: 0."""
    prevalence: float | None
    reason: str


class Subgroup(TypedDict):
    """Test slides that share a value of one column, measured by themselves."""

    column: str
    """site, scanner, or a column of the manifest."""
    value: str
    """Empty: the slides that name none."""
    slides: int
    cases: int
    positives: int
    small: bool
    """Fewer than 20 cases: intervals are wide, and differences between groups mean little."""
    roc_auc: PooledMetric
    sensitivity: PooledMetric
    """At the checkpoint's threshold, like specificity."""
    specificity: PooledMetric
    reason: str


class RocCurve(TypedDict):
    """Sensitivity at each false positive rate, mean over seeds; lists are empty where there is a reason."""

    false_positive_rate: list[float]
    sensitivity: list[float]
    low: list[float] | None
    """Band of the resampled patients; None where they are too few."""
    high: list[float] | None
    reason: str


class PrCurve(TypedDict):
    """Precision where each recall is first reached, mean over seeds."""

    recall: list[float]
    precision: list[float]
    low: list[float] | None
    high: list[float] | None
    chance: float | None
    """Share of positives."""
    reason: str


class Curves(TypedDict):
    """Both curves of one score."""

    roc: RocCurve
    pr: PrCurve


class FrocCurve(TypedDict):
    """Lesions hit against false positives per slide, mean over seeds."""

    false_positives_per_slide: list[float]
    sensitivity: list[float]
    low: list[float] | None
    high: list[float] | None


class FrocPoints(TypedDict):
    """Sensitivity at the six rates of CAMELYON16 and their mean, the score."""

    sensitivity: list[float]
    low: list[float] | None
    high: list[float] | None
    score: PooledMetric


class Froc(FrocPoints):
    """Free-response ROC of one tile score; false positives are counted on all slides with tile labels."""

    false_positives_per_slide: list[float]
    """0.25, 0.5, 1, 2, 4, 8: where `sensitivity` is read."""
    curve: FrocCurve
    negative_slides: FrocPoints
    """The same with false positives counted, and averaged, over negative slides alone."""
    lesions: int
    slides: int
    candidates: float
    """Detections a slide, whatever their score, mean over seeds; 0 where there is a reason."""
    hit_rule: str
    reason: str

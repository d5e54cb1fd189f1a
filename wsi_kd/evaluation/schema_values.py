"""Records that every measure of `evaluation/metrics.json` is made of: a number or a reason, with an interval.

They are named to the outside by `wsi_kd.evaluation.schema`.
"""

from typing import TypedDict


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
    """Those the interval is made of; 0 where there is none, or where it is not made by resampling."""
    redrawn: int
    """Resamples that held one class only and were drawn again."""
    reason: str


class Spread(TypedDict):
    """Mean and sample standard deviation (n - 1) over seeds or over folds; sd is None for one value."""

    mean: float | None
    sd: float | None
    count: int


class Summary(TypedDict):
    """Every metric over all seeds and folds."""

    pooled: dict[str, PooledMetric]
    over_seeds: dict[str, Spread]
    over_folds: dict[str, Spread]
    """Over every fold of every seed."""


class ConfusionCounts(TypedDict):
    """Slides by truth and call."""

    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int


class FoldValue(TypedDict):
    """What one model's validation slides gave (a threshold, a temperature), or None and why."""

    seed: int
    fold: int
    value: float | None
    reason: str
    """Also beside a value: that it lies at the limit of what is searched."""


class FoldArea(TypedDict):
    """The AUC on one fold's test part: mean over seeds, the interval by resampling that part's patients."""

    fold: int
    roc_auc: PooledMetric

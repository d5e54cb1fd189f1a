"""Facts of the items on results: a part of `reporting_schema`."""

from typing import Literal

from pydantic import with_config
from typing_extensions import TypedDict

from wsi_kd.core.json_schema import DESCRIBED
from wsi_kd.report.reporting_values import Interval


@with_config(DESCRIBED)
class MetricNames(TypedDict):
    """What is measured."""

    slides: list[str]
    tiles: list[str]


@with_config(DESCRIBED)
class Uncertainty(TypedDict):
    """How intervals are made."""

    method: str
    confidence: float
    resamples: int


@with_config(DESCRIBED)
class SpreadOf(TypedDict):
    """How far the AUC of one score moves with the seed and with the fold; sd is null for one value."""

    recipe: str
    score: str
    sd_over_seeds: float | None
    sd_over_folds: float | None


@with_config(DESCRIBED)
class Robustness(TypedDict):
    """What was varied."""

    spreads: list[SpreadOf]
    baselines: list[str]


@with_config(DESCRIBED)
class TileAgreement(TypedDict):
    """AUC of one tile score against the tile labels."""

    recipe: str
    score: str
    auc: float | None
    low: float | None
    high: float | None


@with_config(DESCRIBED)
class PartitionPerformance(TypedDict):
    """One score on one part of the folds, or why it is not known there."""

    recipe: str
    score: str
    part: Literal["train", "val", "test"]
    slides: int | None
    metrics: dict[str, Interval]
    reason: str
    """Why `metrics` is empty, else empty."""


@with_config(DESCRIBED)
class ModelThresholds(TypedDict):
    """Where one model's scores are called positive."""

    recipe: str
    seed: int
    fold: int
    rule: str
    chosen_on: str
    values: dict[str, float | None]
    """By score; null for one that the model does not have."""


@with_config(DESCRIBED)
class WrongCall(TypedDict):
    """A test slide that a model called wrong."""

    slide_id: str
    case_id: str
    seed: int
    fold: int
    label: str
    call: str
    probability: float | None
    threshold: float


@with_config(DESCRIBED)
class Failures(TypedDict):
    """Wrong calls of one score, the surest first."""

    recipe: str
    score: str
    calls: int
    wrong: list[WrongCall]


@with_config(DESCRIBED)
class SubgroupArea(TypedDict):
    """The AUC within one group."""

    recipe: str
    score: str
    column: str
    value: str
    slides: int
    cases: int
    small: bool
    auc: Interval


@with_config(DESCRIBED)
class CalibrationOf(TypedDict):
    """Of one score, as scored."""

    recipe: str
    score: str
    ece: Interval
    brier: Interval
    slope: Interval

"""What `evaluation/metrics.json` holds of comparisons; named to the outside by `wsi_kd.evaluation.schema`."""

from typing import TypedDict

from wsi_kd.evaluation.schema_values import Spread


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

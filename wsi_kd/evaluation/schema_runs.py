"""What `comparison.json` holds of several runs: `wsi-kd report RUN RUN ...` writes it before the page."""

from typing import Any, TypedDict

from wsi_kd.evaluation.schema_comparisons import Difference
from wsi_kd.evaluation.schema_values import PooledMetric


class RunFacts(TypedDict):
    """One run: what it tested, and how."""

    run: str
    """Name of its folder, longer where two runs would share it."""
    recipes: list[str]
    seeds: list[int]
    folds: int
    test_slides: int
    """With a label."""
    test_cases: int
    unlabeled: int
    """Test slides without a label: scored, not measured."""
    split_group: int
    """Runs of one number put every slide of every fold into the same part."""
    version: str
    """Of the wsi-kd that evaluated it."""


class LeaderboardRow(TypedDict):
    """One score of one recipe of one run; rows are in the order of the validation AUC, the highest first."""

    rank: int
    run: str
    recipe: str
    score: str
    seeds: int
    validation_slides: int
    validation: PooledMetric
    """ROC AUC of the validation slides; what ranks. Weights and thresholds were chosen on these slides."""
    test_slides: int
    test_cases: int
    test: dict[str, PooledMetric]
    """Metrics of the run's own test slides."""
    shared: dict[str, PooledMetric]
    """The same on the slides that every run tested; empty where that is all of every run's, or none."""


class RunDifference(Difference):
    """One metric of one run minus that of another on the slides that both tested."""

    p_holm: float | None
    """The p-value corrected for all tests of the file (`Family`)."""


class RunTest(TypedDict):
    """One pair: a score of one run against a score of another, earlier on the leaderboard minus later."""

    run: str
    recipe: str
    score: str
    against_run: str
    against_recipe: str
    against_score: str
    why: str
    """same recipe and score, or best by validation of each run; where a pair is both, the first."""
    slides: int
    """That both tested, with a label."""
    cases: int
    metrics: dict[str, RunDifference]


class SharedSlides(TypedDict):
    """Test slides of two runs."""

    run: str
    against_run: str
    both: int
    only_run: int
    only_against_run: int


class Family(TypedDict):
    """What the corrected p-values are corrected for."""

    method: str
    tests: int
    """p-values of all pairs and metrics together."""


class RunComparison(TypedDict):
    """What follows from the scores alone; the file adds its stamp, settings that differ, and notes."""

    classes: list[str]
    runs: list[RunFacts]
    confidence: float
    bootstrap_samples: int
    seed: int
    shared_slides: list[SharedSlides]
    shared_by_all: int
    leaderboard: list[LeaderboardRow]
    tests: list[RunTest]
    family: Family
    notes: list[str]
    """In words, what a reader must know: other splits, other slides, recipes of one run alone."""


class RunComparisonFile(RunComparison):
    """The whole file, stamp included (kind `run_comparison`)."""

    schema_version: int
    kind: str
    settings: dict[str, Any]
    settings_hash: str
    versions: dict[str, str]
    differing_settings: dict[str, dict[str, Any]]
    """By setting (`section.key`, of training `train <recipe>.key`) the value of each run; null: none."""
    research_only: str

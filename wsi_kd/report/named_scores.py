"""Which slide scores the page shows, in which order, and what it calls them."""

from collections.abc import Iterator
from typing import NamedTuple

from wsi_kd.evaluation.schema import Metrics, ScoreMetrics, ScoreSummary
from wsi_kd.evaluation.summary import distinct_scores
from wsi_kd.report.record import baseline_name, model_name

CURVE_SCORES = ("teacher", "student")
"""Slide scores that get curves of their own; the student's other pooling stands in the tables alone."""


class NamedScore(NamedTuple):
    """A slide score of a recipe and what the page calls it."""

    recipe: str
    score: str
    metrics: ScoreMetrics

    @property
    def name(self) -> str:
        """As the page shows it."""
        return model_name(self.recipe, self.score)


class NamedSummary(NamedTuple):
    """Areas and calls of a slide score or baseline, and what the page calls it."""

    name: str
    metrics: ScoreSummary


def recipe_scores(metrics: Metrics) -> Iterator[NamedScore]:
    """Yield every slide score of every recipe, each once."""
    for recipe, measured in metrics["recipes"].items():
        for score in distinct_scores(measured):
            yield NamedScore(recipe, score, measured["scores"][score])


def curve_scores(metrics: Metrics) -> list[NamedScore]:
    """List the scores that get curves of their own."""
    return [score for score in recipe_scores(metrics) if score.score in CURVE_SCORES]


def summaries(metrics: Metrics) -> Iterator[NamedSummary]:
    """Yield baselines, then every slide score of every recipe."""
    for baseline, measured in metrics["baselines"].items():
        yield NamedSummary(baseline_name(baseline), measured)
    for score in recipe_scores(metrics):
        yield NamedSummary(score.name, score.metrics)


def main_recipe(metrics: Metrics) -> str | None:
    """Name the recipe that stands first where there is room for one: the last with a student, else the last.

    None where nothing was trained.
    """
    recipes = list(metrics["recipes"])
    with_student = [name for name in recipes if "student" in metrics["recipes"][name]["scores"]]
    found = with_student or recipes
    return found[-1] if found else None

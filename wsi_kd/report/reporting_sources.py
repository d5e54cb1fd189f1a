"""What the reporting items are made from: the run's facts, as the step read them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from wsi_kd.bags.splits import Fold
from wsi_kd.core.records import SlideStatus
from wsi_kd.evaluation.schema import Metrics, ScoreSummary
from wsi_kd.report.record import ModelRun
from wsi_kd.report.slide_quality import SlideQuality
from wsi_kd.report.timings import JobTiming


class SplitFacts(NamedTuple):
    """What `splits.csv` and its sidecar say."""

    folds: tuple[Fold, ...]
    case_of: Mapping[str, str]
    """By slide id, of every slide of the manifest."""
    label_of: Mapping[str, str]
    """By slide id; empty where unlabeled."""
    settings: Mapping[str, Any]
    """Section split."""
    sha256: str
    """Of the table."""


class ReportingSources(NamedTuple):
    """A finished run."""

    metrics: Metrics
    slides: tuple[SlideQuality, ...]
    splits: SplitFacts
    models: tuple[ModelRun, ...]
    headers: tuple[Mapping[str, Any], ...]
    """model.json of each of `models`."""
    validation: Mapping[tuple[str, str], ScoreSummary]
    """By recipe and score (teacher, student): areas and calls on the validation slides of all folds."""
    fingerprints: Mapping[str, str]
    """By slide id."""
    jobs: tuple[JobTiming, ...]
    git: str

    @property
    def used(self) -> tuple[SlideQuality, ...]:
        """Slides that reached the split."""
        return tuple(slide for slide in self.slides if slide.status == SlideStatus.OK)

    @property
    def tested(self) -> frozenset[str]:
        """Slides in the test part of a fold."""
        return frozenset(slide_id for fold in self.splits.folds for slide_id in fold.test)

    @property
    def by_recipe(self) -> dict[str, tuple[Mapping[str, Any], list[ModelRun]]]:
        """The first model's header, and all models of each recipe."""
        found: dict[str, tuple[Mapping[str, Any], list[ModelRun]]] = {}
        for model, header in zip(self.models, self.headers, strict=True):
            found.setdefault(model.recipe, (header, []))[1].append(model)
        return found

"""One recipe measured: all its models' slide and tile scores, read from what the predict step wrote."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from wsi_kd.evaluation.against_baseline import MeasuredRecipe
from wsi_kd.evaluation.localization import CONVENTIONS, TileScores, measure_tiles, summarize_tiles
from wsi_kd.evaluation.schema import LastMeasured
from wsi_kd.evaluation.slide_metrics import (
    SlideMeasurement,
    SlidePlan,
    SlideScores,
    measure_slides,
    summarize_slides,
)
from wsi_kd.inference.slide_prediction import SLIDE_SCORES
from wsi_kd.settings.results import EvaluateSettings
from wsi_kd.steps.scored_models import ModelPredictions, read_tiles, slide_scores, tile_scores


class _Bootstrap(NamedTuple):
    """Arguments of every measure."""

    samples: int
    confidence: float
    seed: int


def measure_recipe(
    models: Sequence[ModelPredictions],
    *,
    annotated: bool,
    columns: Mapping[str, Mapping[str, str]],
    settings: EvaluateSettings,
) -> MeasuredRecipe:
    """Measure the selected models of one recipe; tiles are in memory only meanwhile, and only with labels.

    Args:
        models: one a seed and fold.
        annotated: whether tiles may have labels.
        columns: subgroups, by name each slide's value.
        settings: resamples, confidence and targets.
    """
    drawn = _bootstrap(settings)
    slides: dict[str, SlideMeasurement] = {}
    for score in _scores(models):
        parts = _parts(models, score, part="test")
        plan = SlidePlan(
            validation=tuple(_parts(models, score, part="val")),
            columns=columns,
            sensitivity=settings.sensitivity,
            specificity=settings.specificity,
        )
        twin = next((name for name in slides if _same(parts, _parts(models, name, part="test"))), None)
        slides[score] = slides[twin] if twin else measure_slides(parts, **drawn._asdict(), plan=plan)
    tiles = _tile_parts(models, with_detections=True) if annotated else {}
    return MeasuredRecipe(
        slides=slides,
        tiles={
            name: measure_tiles(parts, convention=CONVENTIONS[name], **drawn._asdict())
            for name, parts in tiles.items()
        },
    )


def summarize_recipe(
    models: Sequence[ModelPredictions], *, annotated: bool, settings: EvaluateSettings
) -> LastMeasured:
    """Measure areas and calls of the last epoch's models alone."""
    drawn = _bootstrap(settings)
    tiles = _tile_parts(models, with_detections=False) if annotated else {}
    return {
        "scores": {
            score: summarize_slides(_parts(models, score, part="test"), **drawn._asdict())
            for score in _scores(models)
        },
        "instances": {
            name: summarize_tiles(parts, convention=CONVENTIONS[name], **drawn._asdict())
            for name, parts in tiles.items()
        },
    }


def _bootstrap(settings: EvaluateSettings) -> _Bootstrap:
    return _Bootstrap(settings.bootstrap_samples, settings.confidence, settings.seed)


def _scores(models: Sequence[ModelPredictions]) -> tuple[str, ...]:
    with_student = all(row.student_probability is not None for model in models for row in model.test_rows)
    return SLIDE_SCORES if with_student else SLIDE_SCORES[:1]


def _parts(models: Sequence[ModelPredictions], score: str, *, part: str) -> list[SlideScores]:
    return [slide_scores(model, score, model.table.header["classes"], part=part) for model in models]


def _same(first: Sequence[SlideScores], second: Sequence[SlideScores]) -> bool:
    """Tell whether two scores are one: `student` is one of the two poolings, thresholds included."""
    return all(
        one.threshold == other.threshold and np.array_equal(one.scores, other.scores)
        for one, other in zip(first, second, strict=True)
    )


def _tile_parts(models: Sequence[ModelPredictions], *, with_detections: bool) -> dict[str, list[TileScores]]:
    """Read every model's tiles; {} where no tile is positive."""
    tiles = [read_tiles(model, with_detections=with_detections) for model in models]
    if not any(kept.labels.any() for kept in tiles):
        return {}
    return {
        name: [tile_scores(model, kept, name) for model, kept in zip(models, tiles, strict=True)]
        for name in CONVENTIONS
        if all(name in kept.scores for kept in tiles)
    }

"""Every recipe against the baseline recipe: differences with intervals and p-values, for metrics.json."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias, cast

import numpy as np

from wsi_kd.evaluation.aggregates import TOO_FEW_CASES, spread
from wsi_kd.evaluation.comparison import Comparison, bootstrap_test, delong_test
from wsi_kd.evaluation.intervals import PerResample, case_indices
from wsi_kd.evaluation.localization import TileMeasurement
from wsi_kd.evaluation.schema import (
    INSTANCE_METRICS,
    ComparisonRecord,
    Comparisons,
    Difference,
    MetricValue,
)
from wsi_kd.evaluation.scored_slides import why_unmeasured
from wsi_kd.evaluation.slide_metrics import SlideAreas, SlideMeasurement, SlideScores

COMPARED_SLIDE_METRICS = ("roc_auc", "average_precision", "balanced_accuracy")
BASELINE_SLIDE_SCORE, BASELINE_TILE_SCORE = "teacher", "evidence"
DELONG, BOOTSTRAP = "DeLong", "bootstrap"

SlideSide: TypeAlias = SlideMeasurement | SlideAreas
Side: TypeAlias = SlideSide | TileMeasurement


class MeasuredRecipe(NamedTuple):
    """The scores of one recipe's selected models."""

    slides: Mapping[str, SlideMeasurement]
    tiles: Mapping[str, TileMeasurement]


class Named(NamedTuple):
    """One score of one recipe."""

    recipe: str
    score: str


class Tested(NamedTuple):
    """A metric compared: the mean over seeds, and each seed that both sides have."""

    test: str
    mean: Comparison
    by_seed: Mapping[int, Comparison]


def compare_recipes(
    recipes: Mapping[str, MeasuredRecipe], *, baseline: str, confidence: float
) -> Comparisons:
    """Compare every recipe but the baseline with it, on the same test slides.

    AUCs of slides: DeLong's test of the mean AUC over seeds, slides of a case taken together. All else (the
    macro AUC of more than two classes too): the bootstrap of patients whose intervals the tables show, with
    the same resamples on both sides.

    Args:
        recipes: by name.
        baseline: name of the recipe to compare with.
        confidence: of the intervals, 0-1.
    """
    if baseline not in recipes:
        reason = f"the recipe {baseline} (evaluate.baseline) is not among those evaluated"
        return {"baseline": baseline, "reason": reason, "slides": [], "tiles": []}
    slides, tiles = [], []
    for recipe, measured in recipes.items():
        for score in measured.slides if recipe != baseline else ():
            against = Named(baseline, BASELINE_SLIDE_SCORE)
            slides.append(_slide_record(recipes, Named(recipe, score), against, confidence=confidence))
        for score, against in _tile_pairs(recipe, measured, baseline=baseline):
            tiles.append(_tile_record(recipes, Named(recipe, score), against, confidence=confidence))
    reason = "" if slides else f"no recipe but {baseline} was evaluated"
    return {"baseline": baseline, "reason": reason, "slides": slides, "tiles": tiles}


def _tile_pairs(recipe: str, measured: MeasuredRecipe, *, baseline: str) -> Iterator[tuple[str, Named]]:
    """Yield what is compared: every score with the baseline's evidence, the student with its teacher's."""
    for score in measured.tiles:
        if recipe != baseline:
            yield score, Named(baseline, BASELINE_TILE_SCORE)
        if score == "student":
            yield score, Named(recipe, BASELINE_TILE_SCORE)


def _slide_record(
    recipes: Mapping[str, MeasuredRecipe], name: Named, against: Named, *, confidence: float
) -> ComparisonRecord:
    first = recipes[name.recipe].slides[name.score]
    second = recipes[against.recipe].slides[against.score]
    return _record(name, against, slide_differences(first, second, confidence=confidence))


def slide_differences(first: SlideSide, second: SlideSide, *, confidence: float) -> dict[str, Difference]:
    """Compare two scores of the same slides by each of `COMPARED_SLIDE_METRICS`.

    Other slides are no fault: every difference is absent then, with the reason.

    Args:
        first: what is measured against the other.
        second: on the same slides, with resamples drawn by the same seed.
        confidence: of the intervals, 0-1.
    """
    reason = "" if _same_slides(first, second) else "not the same test slides"
    reason = reason or next(
        (why for part in (*first.pooled, *second.pooled) if (why := why_unmeasured(part))), ""
    )
    metrics = {}
    for metric in COMPARED_SLIDE_METRICS:
        binary = all(part.class_probabilities is None for part in (*first.pooled, *second.pooled))
        if metric == "roc_auc" and binary and not reason:
            tested = _delong(first, second, confidence=confidence)
        else:
            tested = _bootstrap(first, second, metric=metric, confidence=confidence, reason=reason)
        metrics[metric] = _difference(tested, confidence=confidence)
    return metrics


def _tile_record(
    recipes: Mapping[str, MeasuredRecipe], name: Named, against: Named, *, confidence: float
) -> ComparisonRecord:
    first = recipes[name.recipe].tiles[name.score]
    second = recipes[against.recipe].tiles[against.score]
    counts = [
        {(record["tiles"], record["positives"]) for record in side.metrics["per_seed"]}
        for side in (first, second)
    ]
    reason = "" if counts[0] == counts[1] else "not the same test tiles; predict anew with: wsi-kd predict"
    metrics = {
        metric: _difference(
            _bootstrap(first, second, metric=metric, confidence=confidence, reason=reason),
            confidence=confidence,
        )
        for metric in INSTANCE_METRICS
    }
    return _record(name, against, metrics)


def _delong(first: SlideSide, second: SlideSide, *, confidence: float) -> Tested:
    reference = first.pooled[0]
    labels = reference.labels > 0
    cases = case_indices(reference.case_ids, sorted(set(reference.case_ids)))
    rows = [
        {part.seed: _in_order(part, reference.slide_ids) for part in side.pooled} for side in (first, second)
    ]
    mean = delong_test(
        labels,
        np.stack(list(rows[0].values())),
        np.stack(list(rows[1].values())),
        cases=cases,
        confidence=confidence,
    )
    by_seed = {
        seed: delong_test(labels, scores, rows[1][seed], cases=cases, confidence=confidence)
        for seed, scores in rows[0].items()
        if seed in rows[1]
    }
    return Tested(DELONG, mean, by_seed)


def _bootstrap(first: Side, second: Side, *, metric: str, confidence: float, reason: str) -> Tested:
    values = [_values(side, metric) for side in (first, second)]
    undefined = next((one["reason"] for side in values for one in side.values() if one["value"] is None), "")
    if reason or undefined:
        return Tested(BOOTSTRAP, Comparison(None, None, None, None, None, reason or undefined), {})
    numbers = [{seed: float(one["value"] or 0.0) for seed, one in side.items()} for side in values]
    resampled = [_resampled(side, metric) for side in (first, second)]
    mean = _compare(
        [_mean(side) for side in resampled],
        float(np.mean(list(numbers[0].values())) - np.mean(list(numbers[1].values()))),
        confidence=confidence,
    )
    by_seed = {
        seed: _compare(
            [side.get(seed) for side in resampled], number - numbers[1][seed], confidence=confidence
        )
        for seed, number in numbers[0].items()
        if seed in numbers[1]
    }
    return Tested(BOOTSTRAP, mean, by_seed)


def _compare(sides: Sequence[PerResample | None], difference: float, *, confidence: float) -> Comparison:
    first, second = sides
    if first is None or second is None:
        return Comparison(difference, None, None, None, None, TOO_FEW_CASES)
    return bootstrap_test(first, second, difference=difference, confidence=confidence)


def _values(side: Side, metric: str) -> dict[int, MetricValue]:
    return {
        record["seed"]: cast("MetricValue", cast("Mapping[str, object]", record)[metric])
        for record in side.metrics["per_seed"]
    }


def _resampled(side: Side, metric: str) -> dict[int, PerResample]:
    seeds = [record["seed"] for record in side.metrics["per_seed"]]
    return {seed: values[metric] for seed, values in zip(seeds, side.resampled, strict=False)}


def _mean(resampled: Mapping[int, PerResample]) -> PerResample | None:
    return np.asarray(np.mean(list(resampled.values()), axis=0)) if resampled else None


def _same_slides(first: SlideSide, second: SlideSide) -> bool:
    return len({tuple(sorted(part.slide_ids)) for part in (*first.pooled, *second.pooled)}) == 1


def _in_order(part: SlideScores, slide_ids: Sequence[str]) -> np.ndarray:
    position = {place: index for index, place in enumerate(_places(part.slide_ids))}
    return part.scores[[position[place] for place in _places(slide_ids)]]


def _places(slide_ids: Sequence[str]) -> list[tuple[str, int]]:
    """Number a slide's appearances: given splits may test it in several folds, which stand in their order."""
    seen: Counter[str] = Counter()
    places = []
    for slide_id in slide_ids:
        places.append((slide_id, seen[slide_id]))
        seen[slide_id] += 1
    return places


def _difference(tested: Tested, *, confidence: float) -> Difference:
    mean = tested.mean
    each: list[MetricValue] = [
        {"value": found.difference, "reason": found.reason} for found in tested.by_seed.values()
    ]
    return {
        "estimate": mean.difference,
        "low": mean.low,
        "high": mean.high,
        "confidence": confidence,
        "p_value": mean.p_value,
        "test": tested.test,
        "per_seed": [
            {"seed": seed, "difference": found.difference, "p_value": found.p_value}
            for seed, found in tested.by_seed.items()
        ],
        "over_seeds": spread(each),
        "reason": mean.reason,
    }


def _record(name: Named, against: Named, metrics: dict[str, Difference]) -> ComparisonRecord:
    return {
        "recipe": name.recipe,
        "score": name.score,
        "against_recipe": against.recipe,
        "against_score": against.score,
        "metrics": metrics,
    }

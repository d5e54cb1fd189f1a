"""Instance metrics: tile scores against tile labels, over seeds and folds, with patient bootstrap intervals.

Within one slide any increasing rescaling of a score gives the same AUC. Across slides the convention matters:
evidence and student are probabilities and are compared as they are; attention sums to 1 in each slide, so a
tile's share shrinks with the size of its slide, and attention times the number of tiles (1 = even spread) is
compared instead. Even so it says "more than its neighbors", not "positive"; the measures within a slide are
the numbers that ask attention only what it can answer.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Int64

from wsi_kd.evaluation.aggregates import metric_value, pooled_metric, summarize
from wsi_kd.evaluation.classification import Metric
from wsi_kd.evaluation.froc import SlideDetections
from wsi_kd.evaluation.froc_record import FrocSeed, froc_record
from wsi_kd.evaluation.instance_measures import (
    InstanceMeasures,
    WithinBags,
    chance_levels,
    measure_instances,
    mixed_bags,
    within_bags,
)
from wsi_kd.evaluation.intervals import (
    Areas,
    CaseCounts,
    PerResample,
    Resamples,
    case_indices,
    draw_resamples,
    ranked_counts,
    resampled_areas,
)
from wsi_kd.evaluation.schema import (
    INSTANCE_METRICS,
    FoldArea,
    InstanceMetrics,
    InstanceRecord,
    InstanceSummary,
)

CONVENTIONS = {
    "attention": "attention times the number of tiles of the slide (1 = even spread)",
    "attention_evidence": "attention times the number of tiles, times the evidence",
    "evidence": "probability of the teacher's bag classifier on the tile alone",
    "student": "probability of the student on the tile",
}

Resampled: TypeAlias = dict[str, PerResample]


class TileScores(NamedTuple):
    """One tile score of one model on its test slides (fold None: of one seed's models on all test slides).

    Only tiles with a known label; `slide` points into `case_ids` and `positive_slides`.
    """

    seed: int
    fold: int | None
    scores: Float64[np.ndarray, "tiles"]
    labels: Bool[np.ndarray, "tiles"]
    slide: Int64[np.ndarray, "tiles"]
    case_ids: tuple[str, ...]
    positive_slides: Bool[np.ndarray, "slides"]
    detections: tuple[SlideDetections | None, ...] = ()
    """Of each slide, for FROC; None of a slide without tile labels. () where there are none."""
    no_detections: str = "the tiles were read without their positions"
    """Why `detections` is empty."""


class TileMeasurement(NamedTuple):
    """The metrics of one tile score, and what a comparison with another needs of it."""

    metrics: InstanceMetrics
    resampled: tuple[Resampled, ...]
    """One a seed, in order: each metric in every resample of patients; () without resamples."""


class _Sampled(NamedTuple):
    """All test slides of every seed, and the resampled patients of the intervals."""

    pooled: tuple[TileScores, ...]
    cases: tuple[str, ...]
    resamples: Resamples | None
    resampled: tuple[Resampled, ...]
    """The metrics in every resample, one a seed; () without."""


def pool_tiles(folds: Sequence[TileScores]) -> TileScores:
    """Put the test slides of one seed's folds together."""
    starts = np.cumsum([0, *(len(part.case_ids) for part in folds)])
    return TileScores(
        seed=folds[0].seed,
        fold=None,
        scores=np.concatenate([part.scores for part in folds]),
        labels=np.concatenate([part.labels for part in folds]),
        slide=np.concatenate([part.slide + start for part, start in zip(folds, starts, strict=False)]),
        case_ids=tuple(case for part in folds for case in part.case_ids),
        positive_slides=np.concatenate([part.positive_slides for part in folds]),
        detections=()
        if any(not part.detections for part in folds)
        else tuple(found for part in folds for found in part.detections),
        no_detections=next((part.no_detections for part in folds if not part.detections), ""),
    )


def measure_tiles(
    parts: Sequence[TileScores], *, convention: str, samples: int, confidence: float, seed: int
) -> TileMeasurement:
    """Measure every fold and seed, and the pooled test slides with intervals.

    Args:
        parts: one a seed and fold.
        convention: what is compared across slides, in words.
        samples: bootstrap resamples.
        confidence: of the intervals, 0-1.
        seed: of the bootstrap.
    """
    sampled = _sampled(parts, samples=samples, seed=seed)
    froc = froc_record(
        [
            FrocSeed(part.detections, part.case_ids, part.positive_slides, _why_no_froc(part))
            for part in sampled.pooled
        ],
        cases=sampled.cases,
        resamples=sampled.resamples,
        confidence=confidence,
    )
    summary = _summary(parts, sampled, convention=convention, confidence=confidence)
    folds = _fold_areas(parts, summary["per_fold"], samples=samples, confidence=confidence, seed=seed)
    return TileMeasurement({**summary, "folds": folds, "froc": froc}, sampled.resampled)


def _fold_areas(
    parts: Sequence[TileScores],
    records: Sequence[InstanceRecord],
    *,
    samples: int,
    confidence: float,
    seed: int,
) -> list[FoldArea]:
    """Give the AUC over all tiles of each fold by itself; `records` are those of `parts`."""
    found: list[FoldArea] = []
    for fold in sorted({part.fold for part in parts if part.fold is not None}):
        of_fold = [part for part in parts if part.fold == fold]
        cases = tuple(sorted({case for part in of_fold for case in part.case_ids}))
        by_label = _needed_counts(of_fold[0], cases)[:2]
        resamples = draw_resamples(by_label, samples=samples, seed=seed)
        areas = [] if resamples is None else [_area(part, cases, resamples.counts) for part in of_fold]
        values = [record["roc_auc"] for record in records if record["fold"] == fold]
        metric = pooled_metric(values, areas, resamples=resamples, confidence=confidence)
        found.append({"fold": fold, "roc_auc": metric})
    return found


def _area(part: TileScores, cases: Sequence[str], counts: CaseCounts) -> PerResample:
    if why_no_number(part):
        return np.full(counts.shape[1], np.nan)
    everywhere = np.ones(len(part.labels), dtype=bool)
    slide_case = case_indices(part.case_ids, cases)
    return _tile_areas(part, everywhere, slide_case=slide_case, counts=counts).roc_auc


def summarize_tiles(
    parts: Sequence[TileScores], *, convention: str, samples: int, confidence: float, seed: int
) -> InstanceSummary:
    """Measure as `measure_tiles` does, without FROC: what is told of the last epoch's models."""
    sampled = _sampled(parts, samples=samples, seed=seed)
    return _summary(parts, sampled, convention=convention, confidence=confidence)


def instance_record(part: TileScores) -> InstanceRecord:
    """Measure one part."""
    reason = why_no_number(part)
    found = (
        InstanceMeasures(*([Metric(None, reason)] * len(InstanceMeasures._fields)))
        if reason
        else measure_instances(part.labels, part.scores, bag=part.slide, positive_bags=part.positive_slides)
    )
    return {
        "seed": part.seed,
        "fold": part.fold,
        "tiles": len(part.labels),
        "positives": int(part.labels.sum()),
        "slides": len(part.case_ids),
        "roc_auc": metric_value(found.roc_auc),
        "average_precision": metric_value(found.average_precision),
        "roc_auc_positive_slides": metric_value(found.roc_auc_positive_bags),
        "average_precision_positive_slides": metric_value(found.average_precision_positive_bags),
        "roc_auc_within_slide": metric_value(found.roc_auc_within_bag),
        "average_precision_within_slide": metric_value(found.average_precision_within_bag),
    }


def why_no_number(part: TileScores) -> str:
    """Say how many tile scores are no numbers, or return an empty text."""
    strange = int((~np.isfinite(part.scores)).sum())
    return f"{strange} of {len(part.scores)} tile scores are not finite" if strange else ""


def _why_no_froc(part: TileScores) -> str:
    return why_no_number(part) or ("" if part.detections else part.no_detections)


def _sampled(parts: Sequence[TileScores], *, samples: int, seed: int) -> _Sampled:
    seeds = sorted({part.seed for part in parts})
    pooled = tuple(pool_tiles([part for part in parts if part.seed == wanted]) for wanted in seeds)
    cases = tuple(sorted({case for part in pooled for case in part.case_ids}))
    resamples = draw_resamples(_needed_counts(pooled[0], cases), samples=samples, seed=seed)
    if resamples is None or any(why_no_number(part) for part in pooled):
        return _Sampled(pooled, cases, resamples, ())
    resampled = tuple(_resampled(part, cases, resamples.counts) for part in pooled)
    return _Sampled(pooled, cases, resamples, resampled)


def _summary(
    parts: Sequence[TileScores], sampled: _Sampled, *, convention: str, confidence: float
) -> InstanceSummary:
    per_seed = [instance_record(part) for part in sampled.pooled]
    per_fold = [instance_record(part) for part in parts]
    return {
        "convention": convention,
        "chance": _chance(sampled.pooled[0]),
        **summarize(
            INSTANCE_METRICS,
            per_seed=per_seed,
            per_fold=per_fold,
            resampled=sampled.resampled,
            resamples=sampled.resamples,
            confidence=confidence,
        ),
        "per_seed": per_seed,
        "per_fold": per_fold,
    }


def _chance(part: TileScores) -> dict[str, float | None]:
    """Tell what a score without information would get; tile labels are the same for every seed."""
    found = chance_levels(part.labels, bag=part.slide, positive_bags=part.positive_slides)
    return {
        "average_precision": found.average_precision,
        "average_precision_positive_slides": found.average_precision_positive_bags,
        "average_precision_within_slide": found.average_precision_within_bag,
    }


def _needed_counts(part: TileScores, cases: Sequence[str]) -> Float64[np.ndarray, "kinds cases"]:
    """Count per case what every resample must hold: positive tiles, negative tiles, and slides with both."""
    slide_case = case_indices(part.case_ids, cases)
    tile_case = slide_case[part.slide]
    mixed = mixed_bags(part.labels, bag=part.slide).bags
    needed = [tile_case[part.labels], tile_case[~part.labels], slide_case[mixed]]
    return np.stack([np.bincount(index, minlength=len(cases)).astype(np.float64) for index in needed])


def _resampled(part: TileScores, cases: Sequence[str], counts: CaseCounts) -> Resampled:
    slide_case = case_indices(part.case_ids, cases)
    inside = part.positive_slides[part.slide]
    everywhere = _tile_areas(part, np.ones_like(inside), slide_case=slide_case, counts=counts)
    positive = _tile_areas(part, inside, slide_case=slide_case, counts=counts)
    within: WithinBags = within_bags(part.labels, part.scores, bag=part.slide)
    weights = counts[slide_case[within.bags]]
    return {
        "roc_auc": everywhere.roc_auc,
        "average_precision": everywhere.average_precision,
        "roc_auc_positive_slides": positive.roc_auc,
        "average_precision_positive_slides": positive.average_precision,
        "roc_auc_within_slide": within.roc_auc @ weights / weights.sum(axis=0),
        "average_precision_within_slide": within.average_precision @ weights / weights.sum(axis=0),
    }


def _tile_areas(
    part: TileScores,
    chosen: Bool[np.ndarray, "tiles"],
    *,
    slide_case: Int64[np.ndarray, "slides"],
    counts: CaseCounts,
) -> Areas:
    ranked = ranked_counts(
        part.labels[chosen],
        part.scores[chosen],
        cases=slide_case[part.slide[chosen]],
        case_count=len(counts),
    )
    return resampled_areas(ranked, counts)

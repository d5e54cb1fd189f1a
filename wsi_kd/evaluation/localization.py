"""Instance metrics: tile scores against tile labels, over seeds and folds, with patient bootstrap intervals.

Within one slide any increasing rescaling of a score gives the same AUC. Across slides the convention matters:
evidence and student are probabilities and are compared as they are; attention sums to 1 in each slide, so a
tile's share shrinks with the size of its slide, and attention times the number of tiles (1 = even spread) is
compared instead. Even so it says "more than its neighbors", not "positive"; `roc_auc_within_slide` is the
number that asks attention only what it can answer.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.stats import rankdata

from wsi_kd.evaluation.aggregates import metric_value, summarize
from wsi_kd.evaluation.classification import Metric, average_precision, roc_auc
from wsi_kd.evaluation.intervals import (
    Areas,
    CaseCounts,
    PerResample,
    case_indices,
    draw_resamples,
    ranked_counts,
    resampled_areas,
)
from wsi_kd.evaluation.schema import INSTANCE_METRICS, InstanceMetrics, InstanceRecord

CONVENTIONS = {
    "attention": "attention times the number of tiles of the slide (1 = even spread)",
    "evidence": "probability of the teacher's bag classifier on the tile alone",
    "student": "probability of the student on the tile",
}

PerSlide: TypeAlias = Float64[np.ndarray, "slides"]


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


class WithinSlide(NamedTuple):
    """AUC of each slide that has both labels, and which slides these are."""

    areas: PerSlide
    slides: Int64[np.ndarray, "slides"]


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
    )


def instance_metrics(
    parts: Sequence[TileScores], *, convention: str, samples: int, confidence: float, seed: int
) -> InstanceMetrics:
    """Measure every fold and seed, and the pooled test slides with intervals.

    Args:
        parts: one a seed and fold.
        convention: what is compared across slides, in words.
        samples: bootstrap resamples.
        confidence: of the intervals, 0-1.
        seed: of the bootstrap.
    """
    seeds = sorted({part.seed for part in parts})
    pooled = [pool_tiles([part for part in parts if part.seed == wanted]) for wanted in seeds]
    per_seed = [instance_record(part) for part in pooled]
    per_fold = [instance_record(part) for part in parts]
    cases = sorted({case for part in pooled for case in part.case_ids})
    resamples = draw_resamples(_needed_counts(pooled, cases), samples=samples, seed=seed)
    resampled = [] if resamples is None else [_resampled(part, cases, resamples.counts) for part in pooled]
    return {
        "convention": convention,
        **summarize(
            INSTANCE_METRICS,
            per_seed=per_seed,
            per_fold=per_fold,
            resampled=resampled,
            resamples=resamples,
            confidence=confidence,
        ),
        "per_seed": per_seed,
        "per_fold": per_fold,
    }


def instance_record(part: TileScores) -> InstanceRecord:
    """Measure one part."""
    inside = part.positive_slides[part.slide]
    areas = within_slide(part).areas
    mean_area = (
        Metric(float(areas.mean())) if len(areas) else Metric(None, "no slide has tiles of both labels")
    )
    return {
        "seed": part.seed,
        "fold": part.fold,
        "tiles": len(part.labels),
        "positives": int(part.labels.sum()),
        "slides": len(part.case_ids),
        "roc_auc": metric_value(roc_auc(part.labels, part.scores)),
        "average_precision": metric_value(average_precision(part.labels, part.scores)),
        "roc_auc_positive_slides": metric_value(roc_auc(part.labels[inside], part.scores[inside])),
        "average_precision_positive_slides": metric_value(
            average_precision(part.labels[inside], part.scores[inside])
        ),
        "roc_auc_within_slide": metric_value(mean_area),
    }


def within_slide(part: TileScores) -> WithinSlide:
    """Return the AUC within each slide that has tiles of both labels.

    From ranks (Mann and Whitney): with R the sum of the P positives' ranks among P + N tiles, ties at their
    mean rank, AUC = (R - P (P + 1) / 2) / (P N); much faster on many slides than a curve for each.
    """
    order = np.argsort(part.slide, kind="stable")
    starts = np.searchsorted(part.slide[order], np.arange(1, len(part.case_ids)))
    areas, slides = [], []
    for slide, chosen in enumerate(np.split(order, starts)):
        labels = part.labels[chosen]
        positives = int(labels.sum())
        negatives = len(labels) - positives
        if positives and negatives:
            above = rankdata(part.scores[chosen])[labels].sum() - positives * (positives + 1) / 2
            areas.append(above / (positives * negatives))
            slides.append(slide)
    return WithinSlide(np.array(areas, dtype=np.float64), np.array(slides, dtype=np.int64))


def _needed_counts(
    pooled: Sequence[TileScores], cases: Sequence[str]
) -> Float64[np.ndarray, "classes cases"]:
    """Count per case what every resample must hold: positive tiles, negative tiles, and slides with both."""
    part = pooled[0]
    slide_case = case_indices(part.case_ids, cases)
    tile_case = slide_case[part.slide]
    needed = [tile_case[part.labels], tile_case[~part.labels], slide_case[within_slide(part).slides]]
    return np.stack([np.bincount(index, minlength=len(cases)).astype(np.float64) for index in needed])


def _resampled(part: TileScores, cases: Sequence[str], counts: CaseCounts) -> dict[str, PerResample]:
    slide_case = case_indices(part.case_ids, cases)
    inside = part.positive_slides[part.slide]
    everywhere = _tile_areas(part, np.ones_like(inside), slide_case=slide_case, counts=counts)
    positive = _tile_areas(part, inside, slide_case=slide_case, counts=counts)
    within = within_slide(part)
    weights = counts[slide_case[within.slides]]
    return {
        "roc_auc": everywhere.roc_auc,
        "average_precision": everywhere.average_precision,
        "roc_auc_positive_slides": positive.roc_auc,
        "average_precision_positive_slides": positive.average_precision,
        "roc_auc_within_slide": within.areas @ weights / weights.sum(axis=0),
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

"""Metrics of one slide score over seeds and folds, with patient bootstrap intervals."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Int64

from wsi_kd.evaluation.aggregates import metric_value, summarize
from wsi_kd.evaluation.classification import average_precision, macro_auc, operating_point, roc_auc
from wsi_kd.evaluation.intervals import (
    CaseCounts,
    PerResample,
    case_indices,
    draw_resamples,
    ranked_counts,
    resampled_areas,
)
from wsi_kd.evaluation.schema import SLIDE_METRICS, ScoreMetrics, SlideRecord

BINARY = 2
Counts: TypeAlias = dict[str, PerResample]


class SlideScores(NamedTuple):
    """Scores of one model on its test part (or, fold None, of one seed's models on all test parts)."""

    seed: int
    fold: int | None
    slide_ids: tuple[str, ...]
    case_ids: tuple[str, ...]
    labels: Int64[np.ndarray, "slides"]
    """Class indices; 0 is the negative class."""
    scores: Float64[np.ndarray, "slides"]
    """Probability of any class but the first."""
    calls: Bool[np.ndarray, "slides"]
    """True where the score reaches the threshold of its own model."""
    class_probabilities: Float64[np.ndarray, "slides classes"] | None
    """For a score that tells more than two classes apart; else None."""
    threshold: float | None


class SlideMeasurement(NamedTuple):
    """The metrics of one slide score, and what a comparison with another needs of it."""

    metrics: ScoreMetrics
    pooled: tuple[SlideScores, ...]
    """One a seed, in order: all test slides."""
    resampled: tuple[Counts, ...]
    """One a seed, in order: each metric in every resample of patients; () without resamples."""


def pool_folds(folds: Sequence[SlideScores]) -> SlideScores:
    """Put the test parts of one seed's folds together, in the order of the folds."""
    folds = sorted(folds, key=lambda part: -1 if part.fold is None else part.fold)
    probabilities = [part.class_probabilities for part in folds if part.class_probabilities is not None]
    return SlideScores(
        seed=folds[0].seed,
        fold=None,
        slide_ids=tuple(slide_id for part in folds for slide_id in part.slide_ids),
        case_ids=tuple(case for part in folds for case in part.case_ids),
        labels=np.concatenate([part.labels for part in folds]),
        scores=np.concatenate([part.scores for part in folds]),
        calls=np.concatenate([part.calls for part in folds]),
        class_probabilities=np.concatenate(probabilities) if probabilities else None,
        threshold=folds[0].threshold if len(folds) == 1 else None,
    )


def measure_slides(
    parts: Sequence[SlideScores], *, samples: int, confidence: float, seed: int
) -> SlideMeasurement:
    """Measure every fold and seed, and the pooled test parts with intervals.

    Args:
        parts: one a seed and fold.
        samples: bootstrap resamples.
        confidence: of the intervals, 0-1.
        seed: of the bootstrap.
    """
    seeds = sorted({part.seed for part in parts})
    pooled = [pool_folds([part for part in parts if part.seed == wanted]) for wanted in seeds]
    per_seed = [slide_record(part) for part in pooled]
    per_fold = [slide_record(part) for part in parts]
    cases = sorted({case for part in pooled for case in part.case_ids})
    resamples = draw_resamples(_class_counts(pooled, cases), samples=samples, seed=seed)
    resampled = [] if resamples is None else [_resampled(part, cases, resamples.counts) for part in pooled]
    metrics: ScoreMetrics = {
        "chance": {"average_precision": float((pooled[0].labels > 0).mean())},
        **summarize(
            SLIDE_METRICS,
            per_seed=per_seed,
            per_fold=per_fold,
            resampled=resampled,
            resamples=resamples,
            confidence=confidence,
        ),
        "per_seed": per_seed,
        "per_fold": per_fold,
    }
    return SlideMeasurement(metrics, tuple(pooled), tuple(resampled))


def slide_record(part: SlideScores) -> SlideRecord:
    """Measure one part."""
    positive = part.labels > 0
    point = operating_point(positive, part.calls)
    if part.class_probabilities is None:
        area = roc_auc(positive, part.scores)
    else:
        area = macro_auc(part.labels, part.class_probabilities)
    return {
        "seed": part.seed,
        "fold": part.fold,
        "slides": len(part.labels),
        "positives": int(positive.sum()),
        "threshold": part.threshold,
        "confusion": {
            "true_positive": point.confusion.true_positive,
            "false_positive": point.confusion.false_positive,
            "true_negative": point.confusion.true_negative,
            "false_negative": point.confusion.false_negative,
        },
        "roc_auc": metric_value(area),
        "average_precision": metric_value(average_precision(positive, part.scores)),
        "balanced_accuracy": metric_value(point.balanced_accuracy),
        "sensitivity": metric_value(point.sensitivity),
        "specificity": metric_value(point.specificity),
        "f1": metric_value(point.f1),
    }


def _class_counts(
    pooled: Sequence[SlideScores], cases: Sequence[str]
) -> Float64[np.ndarray, "classes cases"]:
    """Count slides per class and case, the least over the seeds, so that a resample suits every seed."""
    classes = BINARY
    for part in pooled:
        if part.class_probabilities is not None:
            classes = part.class_probabilities.shape[1]
    counts = np.full((classes, len(cases)), np.inf)
    for part in pooled:
        labels = part.labels if part.class_probabilities is not None else (part.labels > 0).astype(np.int64)
        found = np.zeros_like(counts)
        np.add.at(found, (labels, case_indices(part.case_ids, cases)), 1.0)
        counts = np.minimum(counts, found)
    return counts


def _resampled(part: SlideScores, cases: Sequence[str], counts: CaseCounts) -> Counts:
    index = case_indices(part.case_ids, cases)
    positive = part.labels > 0
    areas = resampled_areas(ranked_counts(positive, part.scores, cases=index, case_count=len(cases)), counts)
    roc = areas.roc_auc
    if part.class_probabilities is not None:
        roc = _resampled_macro(part.class_probabilities, part.labels, index=index, counts=counts)
    true_positive, false_positive, true_negative, false_negative = (
        np.bincount(index[which], minlength=len(cases)) @ counts
        for which in (
            positive & part.calls,
            ~positive & part.calls,
            ~positive & ~part.calls,
            positive & ~part.calls,
        )
    )
    sensitivity = true_positive / (true_positive + false_negative)
    specificity = true_negative / (true_negative + false_positive)
    return {
        "roc_auc": roc,
        "average_precision": areas.average_precision,
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "f1": 2 * true_positive / (2 * true_positive + false_positive + false_negative),
    }


def _resampled_macro(
    probabilities: Float64[np.ndarray, "slides classes"],
    labels: Int64[np.ndarray, "slides"],
    *,
    index: Int64[np.ndarray, "slides"],
    counts: CaseCounts,
) -> PerResample:
    areas = [
        resampled_areas(
            ranked_counts(labels == name, probabilities[:, name], cases=index, case_count=len(counts)), counts
        ).roc_auc
        for name in range(probabilities.shape[1])
    ]
    return np.asarray(np.mean(areas, axis=0))

"""Metrics of one slide score over seeds and folds, with patient bootstrap intervals."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float64, Int64

from wsi_kd.evaluation.aggregates import metric_value, summarize
from wsi_kd.evaluation.calibration_record import calibrate
from wsi_kd.evaluation.classification import (
    Confusion,
    Metric,
    OperatingPoint,
    average_precision,
    macro_auc,
    operating_point,
    roc_auc,
)
from wsi_kd.evaluation.curves import score_curves
from wsi_kd.evaluation.decision_curve import decision_curve
from wsi_kd.evaluation.intervals import CaseCounts, PerResample
from wsi_kd.evaluation.operating_points import operating_points
from wsi_kd.evaluation.ranked_slides import areas_of, rank_slides
from wsi_kd.evaluation.sampled_scores import Sampled, SlidePlan, sample_scores, share, sum_by_case
from wsi_kd.evaluation.schema import SLIDE_METRICS, FoldArea, ScoreMetrics, ScoreSummary, SlideRecord
from wsi_kd.evaluation.scored_slides import BINARY, SlideScores, pool_folds, why_unmeasured
from wsi_kd.evaluation.subgroups import subgroups

__all__ = [
    "BINARY",
    "SlideAreas",
    "SlideMeasurement",
    "SlidePlan",
    "SlideScores",
    "measure_areas",
    "measure_slides",
    "pool_folds",
    "slide_record",
    "summarize_slides",
]

Counts: TypeAlias = dict[str, PerResample]


class SlideMeasurement(NamedTuple):
    """The metrics of one slide score, and what a comparison with another needs of it."""

    metrics: ScoreMetrics
    pooled: tuple[SlideScores, ...]
    """One a seed, in order: all test slides."""
    resampled: tuple[Counts, ...]
    """One a seed, in order: each metric in every resample of patients; () without resamples."""


class SlideAreas(NamedTuple):
    """Areas and calls of one slide score alone, and what a comparison with another needs of it."""

    metrics: ScoreSummary
    pooled: tuple[SlideScores, ...]
    """One a seed, in order: all test slides."""
    resampled: tuple[Counts, ...]
    """As of `SlideMeasurement`."""


def measure_slides(
    parts: Sequence[SlideScores],
    *,
    samples: int,
    confidence: float,
    seed: int,
    plan: SlidePlan | None = None,
) -> SlideMeasurement:
    """Measure every fold and seed, and the pooled test parts with intervals.

    Args:
        parts: one a seed and fold; slides with a label.
        samples: bootstrap resamples.
        confidence: of the intervals, 0-1.
        seed: of the bootstrap.
        plan: what is measured beside the areas, and on what; None: without validation slides and subgroups.
    """
    wanted = SlidePlan() if plan is None else plan
    sampled = sample_scores(parts, samples=samples, confidence=confidence, seed=seed)
    resampled = _all_resampled(sampled)
    calibrated = calibrate(sampled, wanted.validation)
    metrics: ScoreMetrics = {
        **_summary(sampled, resampled),
        "folds": _fold_areas(parts, samples=samples, confidence=confidence, seed=seed),
        "operating_points": operating_points(sampled, wanted),
        "calibration": calibrated.record,
        "decision_curve": decision_curve(sampled, scaled=calibrated.scaled),
        "subgroups": subgroups(sampled, wanted.columns, samples=samples, seed=seed, measure=_summary_of),
        "curves": score_curves(sampled),
    }
    return SlideMeasurement(metrics, sampled.pooled, tuple(resampled))


def summarize_slides(
    parts: Sequence[SlideScores], *, samples: int, confidence: float, seed: int
) -> ScoreSummary:
    """Measure areas and calls alone: what is told of baselines and of the last epoch's models."""
    return measure_areas(parts, samples=samples, confidence=confidence, seed=seed).metrics


def measure_areas(parts: Sequence[SlideScores], *, samples: int, confidence: float, seed: int) -> SlideAreas:
    """Measure areas and calls alone, and keep them in every resample: what compares runs."""
    sampled = sample_scores(parts, samples=samples, confidence=confidence, seed=seed)
    resampled = _all_resampled(sampled)
    return SlideAreas(_summary(sampled, resampled), sampled.pooled, tuple(resampled))


def slide_record(part: SlideScores) -> SlideRecord:
    """Measure one part."""
    positive = part.labels > 0
    reason = why_unmeasured(part)
    point = _no_calls(reason) if reason else operating_point(positive, part.calls)
    precision = Metric(None, reason) if reason else average_precision(positive, part.scores)
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
        "roc_auc": metric_value(Metric(None, reason) if reason else _area(part)),
        "average_precision": metric_value(precision),
        "balanced_accuracy": metric_value(point.balanced_accuracy),
        "sensitivity": metric_value(point.sensitivity),
        "specificity": metric_value(point.specificity),
        "f1": metric_value(point.f1),
    }


def _area(part: SlideScores) -> Metric:
    if part.class_probabilities is None:
        return roc_auc(part.labels > 0, part.scores)
    return macro_auc(part.labels, part.class_probabilities)


def _no_calls(reason: str) -> OperatingPoint:
    unknown = Metric(None, reason)
    return OperatingPoint(Confusion(0, 0, 0, 0), unknown, unknown, unknown, unknown)


def _fold_areas(
    parts: Sequence[SlideScores], *, samples: int, confidence: float, seed: int
) -> list[FoldArea]:
    """Measure each fold by itself: its models, its patients."""
    found: list[FoldArea] = []
    for fold in sorted({part.fold for part in parts if part.fold is not None}):
        of_fold = [part for part in parts if part.fold == fold]
        sampled = sample_scores(of_fold, samples=samples, confidence=confidence, seed=seed)
        found.append({"fold": fold, "roc_auc": _summary_of(sampled)["pooled"]["roc_auc"]})
    return found


def _summary_of(sampled: Sampled) -> ScoreSummary:
    return _summary(sampled, _all_resampled(sampled))


def _summary(sampled: Sampled, resampled: Sequence[Counts]) -> ScoreSummary:
    per_seed = [slide_record(part) for part in sampled.pooled]
    per_fold = [slide_record(part) for part in sampled.parts]
    labels = sampled.pooled[0].labels
    return {
        "chance": {"average_precision": float((labels > 0).mean()) if len(labels) else None},
        **summarize(
            SLIDE_METRICS,
            per_seed=per_seed,
            per_fold=per_fold,
            resampled=resampled,
            resamples=sampled.resamples,
            confidence=sampled.confidence,
        ),
        "per_seed": per_seed,
        "per_fold": per_fold,
    }


def _all_resampled(sampled: Sampled) -> list[Counts]:
    if sampled.resamples is None or sampled.reason:
        return []
    return [
        _resampled(part, index, sampled.resamples.counts)
        for part, index in zip(sampled.pooled, sampled.case_of, strict=True)
    ]


def _resampled(part: SlideScores, index: Int64[np.ndarray, "slides"], counts: CaseCounts) -> Counts:
    positive = part.labels > 0
    areas = areas_of(rank_slides(positive, part.scores, cases=index), counts)
    roc = areas.roc_auc
    if part.class_probabilities is not None:
        roc = _resampled_macro(part.class_probabilities, part.labels, index=index, counts=counts)
    kinds = (positive & part.calls, ~positive & part.calls, ~positive & ~part.calls, positive & ~part.calls)
    per_case = sum_by_case(np.stack(kinds).astype(np.float64), index, count=len(counts))
    true_positive, false_positive, true_negative, false_negative = per_case @ counts
    sensitivity = share(true_positive, true_positive + false_negative)
    specificity = share(true_negative, true_negative + false_positive)
    return {
        "roc_auc": roc,
        "average_precision": areas.average_precision,
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "f1": share(2 * true_positive, 2 * true_positive + false_positive + false_negative),
    }


def _resampled_macro(
    probabilities: Float64[np.ndarray, "slides classes"],
    labels: Int64[np.ndarray, "slides"],
    *,
    index: Int64[np.ndarray, "slides"],
    counts: CaseCounts,
) -> PerResample:
    areas = [
        areas_of(rank_slides(labels == name, probabilities[:, name], cases=index), counts).roc_auc
        for name in range(probabilities.shape[1])
    ]
    return np.asarray(np.mean(areas, axis=0))

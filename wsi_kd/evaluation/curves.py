"""ROC and precision-recall curves of a score with their bands, from the resampled patients of its intervals.

Both are vertical averages over seeds: at each false positive rate the mean sensitivity, at each recall the
mean precision (Fawcett, Pattern Recognition Letters 2006, section 8.1).
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float64

from wsi_kd.evaluation.intervals import CaseCounts
from wsi_kd.evaluation.ranked_slides import RankedSlides, Running, rank_slides, running_counts
from wsi_kd.evaluation.sampled_scores import Sampled, band, rounded
from wsi_kd.evaluation.schema import Curves, PrCurve, RocCurve

RATES = np.linspace(0.0, 1.0, 201)
"""False positive rates at which curves of several seeds or resamples are compared."""
RECALLS = np.linspace(0.0, 1.0, 101)
ROUNDING = 1e-9

Points: TypeAlias = Float64[np.ndarray, "points resamples"]


class Both(NamedTuple):
    """Sensitivity at `RATES` and precision at `RECALLS`, a column a resample."""

    sensitivity: Points
    precision: Points


def score_curves(sampled: Sampled) -> Curves:
    """Draw both curves of a score; without slides of both classes there is none, and a reason."""
    reason = sampled.reason or _why_no_curve(sampled)
    if reason:
        return _no_curves(reason)
    ranked = [
        rank_slides(part.labels > 0, part.scores, cases=index)
        for part, index in zip(sampled.pooled, sampled.case_of, strict=True)
    ]
    once = np.ones((len(sampled.cases), 1))
    mean = _mean_curves(ranked, once)
    roc: RocCurve = {
        "false_positive_rate": rounded(RATES),
        "sensitivity": rounded(mean.sensitivity[:, 0]),
        "low": None,
        "high": None,
        "reason": "",
    }
    pr: PrCurve = {
        "recall": rounded(RECALLS),
        "precision": rounded(mean.precision[:, 0]),
        "low": None,
        "high": None,
        "chance": float((sampled.pooled[0].labels > 0).mean()),
        "reason": "",
    }
    if sampled.resamples is not None:
        found = _mean_curves(ranked, sampled.resamples.counts)
        roc["low"], roc["high"] = band(found.sensitivity, confidence=sampled.confidence)
        pr["low"], pr["high"] = band(found.precision, confidence=sampled.confidence)
    return {"roc": roc, "pr": pr}


def _why_no_curve(sampled: Sampled) -> str:
    for part in sampled.pooled:
        positives = int((part.labels > 0).sum())
        if positives in {0, len(part.labels)}:
            return f"no {'negatives' if positives else 'positives'} among {len(part.labels)}"
    return ""


def _no_curves(reason: str) -> Curves:
    roc: RocCurve = {
        "false_positive_rate": [],
        "sensitivity": [],
        "low": None,
        "high": None,
        "reason": reason,
    }
    pr: PrCurve = {
        "recall": [],
        "precision": [],
        "low": None,
        "high": None,
        "chance": None,
        "reason": reason,
    }
    return {"roc": roc, "pr": pr}


def _mean_curves(seeds: list[RankedSlides], counts: CaseCounts) -> Both:
    curves = [_curves(ranked, counts) for ranked in seeds]
    return Both(*(np.asarray(np.mean(points, axis=0)) for points in zip(*curves, strict=True)))


def _curves(ranked: RankedSlides, counts: CaseCounts) -> Both:
    blocks = [_block(running) for running in running_counts(ranked, counts)]
    return Both(*(np.concatenate(points, axis=1) for points in zip(*blocks, strict=True)))


def _block(running: Running) -> Both:
    recalls, false_rates = running.true / running.true[-1], running.false / running.false[-1]
    precision = running.true / np.maximum(running.true + running.false, 1.0)
    columns = range(recalls.shape[1])
    return Both(
        np.stack([_sensitivity(false_rates[:, at], recalls[:, at]) for at in columns], axis=1),
        np.stack([_precision(recalls[:, at], precision[:, at]) for at in columns], axis=1),
    )


def _sensitivity(
    false_rates: Float64[np.ndarray, "groups"], recalls: Float64[np.ndarray, "groups"]
) -> Float64[np.ndarray, "points"]:
    """Read the ROC polygon at `RATES`; at a jump its upper end."""
    x, y = np.append(0.0, false_rates), np.append(0.0, recalls)
    return np.asarray(np.interp(RATES, x, y))


def _precision(
    recalls: Float64[np.ndarray, "groups"], precision: Float64[np.ndarray, "groups"]
) -> Float64[np.ndarray, "points"]:
    """Read the precision at the highest threshold that reaches each recall (no interpolation).

    That is the step whose area is the average precision. At recall 0 the first threshold with a positive.
    """
    wanted = np.maximum(RECALLS, ROUNDING)
    first = np.searchsorted(recalls, wanted - ROUNDING / 2, side="left")
    return np.asarray(precision[np.minimum(first, len(recalls) - 1)])

"""ROC and precision-recall curves of one score, from one sort: equal scores are one threshold.

`labels` (instances,) True = positive; `scores` (instances,) finite, higher means more positive.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float64

Labels: TypeAlias = Bool[np.ndarray, "instances"]
Scores: TypeAlias = Float[np.ndarray, "instances"]


class CurveAreas(NamedTuple):
    """Areas under both curves of one set of instances that holds both labels."""

    roc_auc: float
    average_precision: float


class RocPoints(NamedTuple):
    """The corners of a ROC curve, from nothing called positive (a threshold of infinity) to all."""

    false_positive_rate: Float64[np.ndarray, "thresholds"]
    true_positive_rate: Float64[np.ndarray, "thresholds"]
    thresholds: Float64[np.ndarray, "thresholds"]
    """Each distinct score, falling: called positive is what reaches it."""


class _Counts(NamedTuple):
    """Positives and instances with at least each distinct score, the highest first."""

    positives: Float64[np.ndarray, "thresholds"]
    instances: Float64[np.ndarray, "thresholds"]
    scores: Float64[np.ndarray, "thresholds"]


def curve_areas(labels: Labels, scores: Scores) -> CurveAreas:
    """Return both areas from one sort; much faster on many small bags than a curve for each.

    With p_g, n_g positives and negatives at the g-th highest score, P and N their sums and T_g, F_g their
    running sums: AUC = sum_g n_g (T_g - p_g / 2) / (P N), AP = sum_g (p_g / P) T_g / (T_g + F_g).

    Raises:
        ValueError: one label only.
    """
    above, total, _ = _counts(labels, scores)
    positives, negatives = above[-1], total[-1] - above[-1]
    at_score = np.diff(above, prepend=0.0)
    negatives_at_score = np.diff(total, prepend=0.0) - at_score
    return CurveAreas(
        roc_auc=float((negatives_at_score * (above - at_score / 2)).sum() / (positives * negatives)),
        average_precision=float((at_score * above / total).sum() / positives),
    )


def roc_points(labels: Labels, scores: Scores) -> RocPoints:
    """Return the corner of every distinct score, those on a straight line too.

    >>> points = roc_points(np.array([True, False, True]), np.array([0.9, 0.5, 0.5]))
    >>> [values.tolist() for values in points]
    [[0.0, 0.0, 1.0], [0.0, 0.5, 1.0], [inf, 0.9, 0.5]]

    Raises:
        ValueError: one label only.
    """
    above, total, cuts = _counts(labels, scores)
    below = total - above
    return RocPoints(
        np.append(0.0, below / below[-1]), np.append(0.0, above / above[-1]), np.append(np.inf, cuts)
    )


def _counts(labels: Labels, scores: Scores) -> _Counts:
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    above = np.cumsum(labels[order])[ends].astype(np.float64)
    total = (ends + 1).astype(np.float64)
    if not 0 < above[-1] < total[-1]:
        raise ValueError(f"{above[-1]:g} positives among {total[-1]:g}; a curve needs both labels")
    return _Counts(above, total, scores[order][ends].astype(np.float64))

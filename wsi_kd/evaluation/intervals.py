"""Patient bootstrap: cases are drawn with replacement, and every slide and tile of a case goes with it.

A resample is a column of counts, how often each case was drawn. Metrics of all resamples follow from counts
by matrix products; no slide or tile is copied. Percentile intervals (Efron and Tibshirani, An Introduction to
the Bootstrap, 1993, chapter 13).
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

CaseCounts: TypeAlias = Float64[np.ndarray, "cases resamples"]
PerResample: TypeAlias = Float64[np.ndarray, "resamples"]

MAX_GROUPS = 4096
"""More distinct scores than this are merged into that many groups of neighbors (for intervals only)."""

MAX_REDRAWS = 1000
COLUMNS_AT_ONCE = 128


class Resamples(NamedTuple):
    """`counts[c, r]`: how often case c was drawn in resample r."""

    counts: CaseCounts
    redrawn: int
    """Draws that lacked a class and were thrown away."""


class RankedCounts(NamedTuple):
    """Positives and negatives per distinct score (descending) and case."""

    positives: Float64[np.ndarray, "groups cases"]
    negatives: Float64[np.ndarray, "groups cases"]


class Areas(NamedTuple):
    """Areas under both curves for each resample."""

    roc_auc: PerResample
    average_precision: PerResample


class Interval(NamedTuple):
    """Lower and upper percentile."""

    low: float
    high: float


def case_indices(case_ids: Sequence[str], cases: Sequence[str]) -> Int[np.ndarray, "items"]:
    """Return for each item the position of its case in `cases`."""
    position = {case: index for index, case in enumerate(cases)}
    return np.array([position[case] for case in case_ids], dtype=np.int64)


def draw_resamples(
    class_counts: Float64[np.ndarray, "classes cases"], *, samples: int, seed: int
) -> Resamples | None:
    """Draw `samples` resamples of as many cases as there are; each holds every class at least once.

    `class_counts[k, c]`: members of class k in case c. Returns None where that cannot be had: a class without
    members, or one so rare that MAX_REDRAWS rounds do not fill the resamples.
    """
    if not class_counts.sum(axis=1).all():
        return None
    generator = np.random.default_rng(seed)
    cases = class_counts.shape[1]
    even = np.full(cases, 1.0 / cases)
    kept: list[np.ndarray] = []
    missing, redrawn = samples, 0
    for _ in range(MAX_REDRAWS):
        drawn = generator.multinomial(cases, even, size=missing).astype(np.float64)
        complete = drawn[(drawn @ class_counts.T > 0).all(axis=1)]
        kept.append(complete)
        redrawn += missing - len(complete)
        missing -= len(complete)
        if missing == 0:
            return Resamples(np.concatenate(kept).T, redrawn)
    return None


def ranked_counts(
    labels: Bool[np.ndarray, "items"],
    scores: Float[np.ndarray, "items"],
    *,
    cases: Int[np.ndarray, "items"],
    case_count: int,
) -> RankedCounts:
    """Count positives and negatives per case at each distinct score, the highest score first."""
    _, group = np.unique(-scores, return_inverse=True)
    groups = int(group.max()) + 1 if len(group) else 0
    if groups > MAX_GROUPS:
        group = group * MAX_GROUPS // groups
        groups = MAX_GROUPS
    cell = group * case_count + cases
    shape = (groups, case_count)
    positives, negatives = (
        np.bincount(cell[which], minlength=groups * case_count).reshape(shape).astype(np.float64)
        for which in (labels, ~labels)
    )
    return RankedCounts(positives, negatives)


def resampled_areas(ranked: RankedCounts, counts: CaseCounts) -> Areas:
    """Return ROC AUC and average precision of every resample.

    With p_g, n_g the resampled positives and negatives at the g-th highest score, P and N their sums and T_g,
    F_g their running sums: AUC = sum_g n_g (T_g - p_g / 2) / (P N) and AP = sum_g (p_g / P) T_g / (T_g +
    F_g).
    """
    chunks = [
        _areas(ranked, counts[:, start : start + COLUMNS_AT_ONCE])
        for start in range(0, counts.shape[1], COLUMNS_AT_ONCE)
    ]
    return Areas(
        np.concatenate([chunk.roc_auc for chunk in chunks]),
        np.concatenate([chunk.average_precision for chunk in chunks]),
    )


def percentile_interval(values: PerResample, *, confidence: float) -> Interval:
    """Return the central share `confidence` of the values.

    >>> percentile_interval(np.arange(101.0), confidence=0.9)
    Interval(low=5.0, high=95.0)
    """
    outside = (1.0 - confidence) / 2
    low, high = np.quantile(values, [outside, 1.0 - outside])
    return Interval(float(round(low, 12)), float(round(high, 12)))


def _areas(ranked: RankedCounts, counts: CaseCounts) -> Areas:
    positives, negatives = ranked.positives @ counts, ranked.negatives @ counts
    above, below = positives.cumsum(axis=0), negatives.cumsum(axis=0)
    pairs = above[-1] * below[-1]
    precision = above / np.maximum(above + below, 1.0)
    return Areas(
        roc_auc=(negatives * (above - positives / 2)).sum(axis=0) / pairs,
        average_precision=(positives * precision).sum(axis=0) / above[-1],
    )

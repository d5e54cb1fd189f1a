"""Positives and negatives above every distinct score, in every resample of patients, without a loop.

A slide belongs to one case, so its weight in a resample is how often that case was drawn: one gather and two
running sums give both curves of all resamples, a block of resamples at a time so that memory stays bounded.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from wsi_kd.evaluation.intervals import Areas, CaseCounts

MAX_CELLS = 1 << 21
"""Slides x resamples held at once (16 MiB an array)."""


class RankedSlides(NamedTuple):
    """Slides by falling score."""

    labels: Bool[np.ndarray, "slides"]
    cases: Int64[np.ndarray, "slides"]
    ends: Int64[np.ndarray, "groups"]
    """Position of the last slide of each distinct score."""


class Running(NamedTuple):
    """True and false positives at each distinct score, from the highest: calls are score >= that one."""

    true: Float64[np.ndarray, "groups resamples"]
    false: Float64[np.ndarray, "groups resamples"]


def rank_slides(
    labels: Bool[np.ndarray, "slides"],
    scores: Float64[np.ndarray, "slides"],
    *,
    cases: Int64[np.ndarray, "slides"],
) -> RankedSlides:
    """Sort by falling score; slides of equal score form one group."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    return RankedSlides(labels[order], cases[order], ends)


def running_counts(ranked: RankedSlides, counts: CaseCounts) -> Iterator[Running]:
    """Yield the running counts of all resamples, a block of columns at a time.

    >>> ranked = rank_slides(np.array([True, False]), np.array([0.9, 0.1]), cases=np.array([0, 1]))
    >>> next(running_counts(ranked, np.array([[1.0, 2.0], [1.0, 0.0]]))).true.tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """
    columns = max(1, MAX_CELLS // max(1, len(ranked.cases)))
    for start in range(0, counts.shape[1], columns):
        weights = counts[ranked.cases, start : start + columns]
        everything = weights.cumsum(axis=0)[ranked.ends]
        weights[~ranked.labels] = 0.0
        true = weights.cumsum(axis=0)[ranked.ends]
        yield Running(true, everything - true)


def areas_of(ranked: RankedSlides, counts: CaseCounts) -> Areas:
    """Return ROC AUC and average precision of every resample; formulas as `intervals.resampled_areas`."""
    blocks = [_areas(running) for running in running_counts(ranked, counts)]
    return Areas(
        np.concatenate([block.roc_auc for block in blocks]),
        np.concatenate([block.average_precision for block in blocks]),
    )


def _areas(running: Running) -> Areas:
    positives = np.diff(running.true, axis=0, prepend=0.0)
    negatives = np.diff(running.false, axis=0, prepend=0.0)
    precision = running.true / np.maximum(running.true + running.false, 1.0)
    pairs = running.true[-1] * running.false[-1]
    return Areas(
        roc_auc=(negatives * (running.true - positives / 2)).sum(axis=0) / pairs,
        average_precision=(positives * precision).sum(axis=0) / running.true[-1],
    )

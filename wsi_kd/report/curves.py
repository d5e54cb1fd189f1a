"""The ROC curve of a score with its band, from the same resampled patients as the AUC's interval."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64

from wsi_kd.evaluation.intervals import RankedCounts, case_indices, draw_resamples, ranked_counts

GRID = 201
"""False positive rates at which curves of several seeds or resamples are compared."""

Rates: TypeAlias = Float64[np.ndarray, "rates"]


class ScoredSlides(NamedTuple):
    """Test slides of one seed, all folds together."""

    case_ids: tuple[str, ...]
    labels: Bool[np.ndarray, "slides"]
    """True: positive."""
    scores: Float64[np.ndarray, "slides"]


class RocBand(NamedTuple):
    """Sensitivity at each false positive rate: mean over seeds, and the band of the resampled patients."""

    false_positive_rate: Rates
    sensitivity: Rates
    low: Rates | None
    """None where the cases are too few to resample."""
    high: Rates | None


def roc_band(seeds: Sequence[ScoredSlides], *, samples: int, confidence: float, seed: int) -> RocBand | None:
    """Average the seeds' ROC curves at each false positive rate; the band resamples cases.

    Returns None where a seed's slides lack a class: there is no curve.

    Args:
        seeds: one a training seed, with the same cases.
        samples: bootstrap resamples.
        confidence: central share of the resampled curves at each false positive rate.
        seed: of the bootstrap; that of the AUC's interval gives the very same resamples.
    """
    if any(part.labels.all() or not part.labels.any() for part in seeds):
        return None
    cases = sorted({case for part in seeds for case in part.case_ids})
    ranked = [_ranked(part, cases) for part in seeds]
    grid = np.linspace(0.0, 1.0, GRID)
    once = np.ones((len(cases), 1))
    mean = np.mean([_sensitivity(part, once, grid) for part in ranked], axis=0)[:, 0]
    least = np.min([[part.negatives.sum(axis=0), part.positives.sum(axis=0)] for part in ranked], axis=0)
    resamples = draw_resamples(least, samples=samples, seed=seed)
    if resamples is None:
        return RocBand(grid, mean, None, None)
    curves = np.mean([_sensitivity(part, resamples.counts, grid) for part in ranked], axis=0)
    outside = (1.0 - confidence) / 2
    low, high = np.quantile(curves, [outside, 1.0 - outside], axis=1)
    return RocBand(grid, mean, low, high)


def _ranked(part: ScoredSlides, cases: Sequence[str]) -> RankedCounts:
    return ranked_counts(
        part.labels, part.scores, cases=case_indices(part.case_ids, cases), case_count=len(cases)
    )


def _sensitivity(
    ranked: RankedCounts, counts: Float64[np.ndarray, "cases resamples"], grid: Rates
) -> Float64[np.ndarray, "rates resamples"]:
    """Return each resample's sensitivity on the grid: its ROC polygon, at a jump the upper end."""
    true_rates, false_rates = (
        np.vstack([np.zeros(counts.shape[1]), (part @ counts).cumsum(axis=0)])
        for part in (ranked.positives, ranked.negatives)
    )
    true_rates, false_rates = true_rates / true_rates[-1], false_rates / false_rates[-1]
    columns = range(counts.shape[1])
    return np.stack([np.interp(grid, false_rates[:, at], true_rates[:, at]) for at in columns], axis=1)

"""All test slides of every seed with the resamples of patients that each interval of a score is made of."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Float64, Int64

from wsi_kd.evaluation.intervals import PerResample, Resamples, case_indices, draw_resamples
from wsi_kd.evaluation.scored_slides import (
    SlideScores,
    cases_of,
    class_counts,
    pool_seeds,
    why_unmeasured,
)

PerCase: TypeAlias = Float64[np.ndarray, "kinds cases"]


class SlidePlan(NamedTuple):
    """What is measured of a slide score beside its areas."""

    validation: tuple[SlideScores, ...] = ()
    """Validation slides of the same models, one part a seed and fold: thresholds and temperatures are chosen
    there."""
    columns: Mapping[str, Mapping[str, str]] = MappingProxyType({})
    """Subgroups: by column each slide's value."""
    sensitivity: float = 0.95
    """Reached on validation by the operating point `sensitivity`."""
    specificity: float = 0.95


class Sampled(NamedTuple):
    """What every measure of one score starts from."""

    parts: tuple[SlideScores, ...]
    """One a seed and fold: test slides with a label."""
    pooled: tuple[SlideScores, ...]
    """One a seed."""
    cases: tuple[str, ...]
    case_of: tuple[Int64[np.ndarray, "slides"], ...]
    """Of each seed's pooled slides, the position of the case in `cases`."""
    resamples: Resamples | None
    confidence: float
    reason: str
    """Why nothing can be measured, or empty."""

    def weighted(self, seed: int, values: Float[np.ndarray, "kinds slides"]) -> PerCase:
        """Sum values of the slides of the `seed`-th seed over each case's slides."""
        return sum_by_case(values, self.case_of[seed], count=len(self.cases))


def sample_scores(parts: Sequence[SlideScores], *, samples: int, confidence: float, seed: int) -> Sampled:
    """Pool the folds of every seed and draw patients, the same for every score of these slides.

    Args:
        parts: one a seed and fold.
        samples: bootstrap resamples.
        confidence: of the intervals, 0-1.
        seed: of the bootstrap.
    """
    pooled = pool_seeds(parts)
    cases = cases_of(pooled)
    reason = next((why for part in pooled if (why := why_unmeasured(part))), "")
    return Sampled(
        parts=tuple(parts),
        pooled=tuple(pooled),
        cases=tuple(cases),
        case_of=tuple(case_indices(part.case_ids, cases) for part in pooled),
        resamples=draw_resamples(class_counts(pooled, cases), samples=samples, seed=seed),
        confidence=confidence,
        reason=reason,
    )


def sum_by_case(
    values: Float[np.ndarray, "kinds slides"], index: Int64[np.ndarray, "slides"], *, count: int
) -> PerCase:
    """Sum over the slides of each case, so that a product with a resample's counts is a sum over slides."""
    return np.stack(
        [np.bincount(index, weights=np.asarray(row, dtype=np.float64), minlength=count) for row in values]
    )


def share(part: PerResample, whole: PerResample) -> PerResample:
    """Divide; NaN where there is nothing to divide by.

    >>> share(np.array([1.0, 0.0]), np.array([2.0, 0.0])).tolist()
    [0.5, nan]
    """
    return np.asarray(np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0))


def band(
    curves: Float64[np.ndarray, "points resamples"], *, confidence: float
) -> tuple[list[float], list[float]]:
    """Return the central share `confidence` of the resampled curves at each point, low and high."""
    outside = (1.0 - confidence) / 2
    low, high = np.quantile(curves, [outside, 1.0 - outside], axis=1)
    return rounded(low), rounded(high)


def rounded(values: Float64[np.ndarray, "points"]) -> list[float]:
    """Return the values for a JSON file; six digits are below what any chart shows."""
    return [float(value) for value in np.round(values, 6)]

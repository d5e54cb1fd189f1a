"""Whether a slide looks like those a model was trained on: the first question before its answer is read.

A slide's feature distance (`SlidePrediction`) is compared with a limit that the model carries. The limit is
set on the validation slides of its training, which the distance has never seen: it knows the training tiles'
mean and covariance alone.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from scipy.special import stdtrit

FALSE_FLAGS: Final = 0.05
"""Share of cases like the validation slides' that may be flagged: so often the flag cries wolf."""
FEWEST_CASES: Final = 5
"""Of which a limit is set; fewer say nothing about how distances spread."""
UNLIKE: Final = 2.0
"""The limit without enough validation cases.

Measured on held-out slides of three cohorts (demo, CRC nuclei with two encoders): 0.7 to 1.9; a skin slide
given to the demo's model: 5.3.
"""
MEANING: Final = (
    "median over tiles of their Mahalanobis distance from the training's tiles per feature, usually about 1; "
    "over the limit stain, scanner or tissue differ from the training: do not trust the answer"
)


class Limit(NamedTuple):
    """The largest feature distance of a slide like the training's, and how it was found."""

    limit: float
    rule: str
    """conformal, lognormal or constant: see `calibrate_limit`."""
    false_flags: float | None
    """Share of cases like these that the limit flags, at most (conformal) or on average; None: unknown."""
    cases: int
    slides: int
    chosen_on: str
    """The part of the split whose slides those are."""


def calibrate_limit(
    distances: Sequence[float], case_ids: Sequence[str], *, false_flags: float = FALSE_FLAGS
) -> Limit:
    """Set the limit on validation slides, so that of a new case like these a slide is rarely beyond it.

    Slides of a case resemble each other, so a case counts once, with its largest distance; n cases:

    - conformal, n >= 1 / false_flags - 1 (19 at 0.05): the k-th smallest, k = ceil((n + 1) (1 -
      false_flags)). Whatever the distribution, a case drawn as those n were lies beyond it with probability
      1 - k / (n + 1) <= false_flags (Vovk et al., Algorithmic Learning in a Random World, 2005; split
      conformal prediction).
    - lognormal, n >= 5: exp(m + t s sqrt(1 + 1 / n)), m and s the mean and standard deviation (n - 1) of the
      logarithms, t the quantile 1 - false_flags of Student's distribution with n - 1 degrees of freedom:
      the one-sided prediction bound, exact where the logarithms are normal (Hahn and Meeker, Statistical
      Intervals, 1991, 4.7). The largest of so few would be passed too often: by one case of n + 1.
    - constant: `UNLIKE`, for fewer cases, or distances of zero, which have no logarithm.

    >>> calibrate_limit([0.9, 1.1], ["a", "b"]).limit
    2.0
    >>> found = calibrate_limit([0.8 + 0.01 * i for i in range(20)], [str(i) for i in range(20)])
    >>> found.rule, round(found.limit, 6)
    ('conformal', 0.99)
    """
    largest = _largest_of_cases(distances, case_ids)
    cases, slides = len(largest), len(distances)
    rank = math.ceil((cases + 1) * (1.0 - false_flags) - 1e-9)
    if rank <= cases and cases >= FEWEST_CASES and largest[rank - 1] > 0.0:
        return Limit(float(largest[rank - 1]), "conformal", false_flags, cases, slides, "val")
    if cases >= FEWEST_CASES and largest[0] > 0.0:
        bound = _lognormal_bound(largest, false_flags)
        return Limit(bound, "lognormal", false_flags, cases, slides, "val")
    return Limit(UNLIKE, "constant", None, cases, slides, "val")


def limit_of(header: Mapping[str, Any]) -> Limit:
    """Return the limit that a checkpoint's header carries."""
    return Limit(**header["out_of_distribution"])


def is_out_of_distribution(distance: float, limit: Limit) -> bool:
    """Return whether the slide's tiles are too far from the training tiles for the answer to be trusted."""
    return distance > limit.limit


def out_of_distribution_record(distance: float, limit: Limit) -> dict[str, Any]:
    """Return what prediction.json says of it."""
    return {
        "feature_distance": distance,
        "flag": is_out_of_distribution(distance, limit),
        **limit._asdict(),
        "meaning": MEANING,
    }


def out_of_distribution_note(distance: float, limit: Limit) -> str:
    """Say it in words for the status line; empty for a slide like those of the training."""
    if not is_out_of_distribution(distance, limit):
        return ""
    return (
        f"unlike the training slides (feature distance {distance:.2f}, limit {limit.limit:.2f}): "
        "do not trust its answer"
    )


def _largest_of_cases(distances: Sequence[float], case_ids: Sequence[str]) -> np.ndarray:
    """Return each case's largest distance, ascending."""
    largest: dict[str, float] = {}
    for case_id, distance in zip(case_ids, distances, strict=True):
        largest[case_id] = max(distance, largest.get(case_id, -math.inf))
    return np.sort(np.array(list(largest.values()), dtype=np.float64))


def _lognormal_bound(distances: np.ndarray, false_flags: float) -> float:
    logs = np.log(distances)
    quantile = float(stdtrit(len(logs) - 1, 1.0 - false_flags))
    return float(np.exp(logs.mean() + quantile * logs.std(ddof=1) * math.sqrt(1.0 + 1.0 / len(logs))))

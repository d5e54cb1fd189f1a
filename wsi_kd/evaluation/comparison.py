"""Paired comparison of two scores of the same slides: DeLong's test of AUCs, and a bootstrap for all else.

Several seeds of a recipe are compared by their mean AUC, which is the estimate that the tables show: the mean
is a linear contrast of all AUCs, whose covariance DeLong's structural components give. The models are taken
as they are: what another training would change is not in a p-value, the spread over seeds tells of it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import ndtri

from wsi_kd.core.midranks import midranks
from wsi_kd.evaluation.intervals import PerResample, percentile_interval

SMALLEST_ERROR = 1e-9
"""A standard error below this is rounding: areas are counts of pairs."""

Scores: TypeAlias = Float64[np.ndarray, "scores slides"]


class AreaCovariance(NamedTuple):
    """Areas under the ROC curves of several scores of the same slides, and their covariance."""

    areas: Float64[np.ndarray, "scores"]
    covariance: Float64[np.ndarray, "scores scores"]


class Comparison(NamedTuple):
    """First minus second; what the data cannot give is None, with a reason."""

    difference: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    p_value: float | None
    """Two-sided: how often a difference as large would be seen if there were none."""
    reason: str = ""


def area_covariance(
    labels: Bool[np.ndarray, "slides"], scores: Scores, *, cases: Int64[np.ndarray, "slides"] | None = None
) -> AreaCovariance:
    """Return AUCs and their covariance by structural components, from ranks: O(slides log slides) a score.

    With M positives X and N negatives Y, V10(X_i) is the share of negatives below X_i and V01(Y_j) the share
    of positives above Y_j, ties half (DeLong, DeLong and Clarke-Pearson, Biometrics 1988, eq. 4-6); both
    follow from midranks (Sun and Xu, IEEE Signal Processing Letters 2014, eq. 14-15). Slides of one patient
    are not independent: deviations are summed within a case before they are multiplied (Obuchowski,
    Biometrics 1997, eq. 2-5), which is DeLong's form where every case has one slide.

    Args:
        labels: True for positive.
        scores: one row a score.
        cases: whose slide it is, 0 and up; None: each slide is a case of its own.

    Raises:
        ValueError: fewer than two cases with positives, or with negatives.
    """
    cases = np.arange(len(labels)) if cases is None else cases
    short = _too_few(labels, cases)
    if short:
        raise ValueError(short)
    positives, negatives = int(labels.sum()), int((~labels).sum())
    ranks = _midranks(scores)
    above = (ranks[:, labels] - _midranks(scores[:, labels])) / negatives
    below = 1.0 - (ranks[:, ~labels] - _midranks(scores[:, ~labels])) / positives
    areas = above.mean(axis=1)
    by_positive = _sum_by_case(above - areas[:, None], cases[labels], count=int(cases.max()) + 1) / positives
    by_negative = _sum_by_case(below - areas[:, None], cases[~labels], count=int(cases.max()) + 1) / negatives
    between = _unbiased(cases) * (by_positive @ by_negative.T)
    covariance = (
        _unbiased(cases[labels]) * (by_positive @ by_positive.T)
        + _unbiased(cases[~labels]) * (by_negative @ by_negative.T)
        + between
        + between.T
    )
    return AreaCovariance(areas, covariance)


def delong_test(
    labels: Bool[np.ndarray, "slides"],
    first: Float64[np.ndarray, "*first_seeds slides"],
    second: Float64[np.ndarray, "*second_seeds slides"],
    *,
    cases: Int64[np.ndarray, "slides"] | None = None,
    confidence: float = 0.95,
) -> Comparison:
    """Test whether two scores of the same slides have the same AUC (of several seeds: the same mean AUC).

    z = L a / sqrt(L C L^T) with the areas a, their covariance C (`area_covariance`) and the contrast L =
    1 / seeds for the rows of `first`, - 1 / seeds for those of `second`; p = P(|Z| > |z|), Z standard normal.

    >>> labels = np.array([True, True, True, False, False, False])
    >>> scores = np.array([0.9, 0.8, 0.3, 0.4, 0.2, 0.1])
    >>> delong_test(labels, scores, scores).p_value
    1.0

    Args:
        labels: True for positive.
        first: one score, or one row a seed.
        second: what it is compared with.
        cases: whose slide it is; None: each slide is a case of its own.
        confidence: of the interval, 0-1.
    """
    reason = _too_few(labels, np.arange(len(labels)) if cases is None else cases)
    if reason:
        return Comparison(None, None, None, None, None, reason)
    rows = [np.atleast_2d(first), np.atleast_2d(second)]
    found = area_covariance(labels, np.concatenate(rows), cases=cases)
    contrast = np.concatenate(
        [np.full(len(row), sign / len(row)) for row, sign in zip(rows, (1, -1), strict=True)]
    )
    variance = float(contrast @ found.covariance @ contrast)
    return _normal_test(float(contrast @ found.areas), math.sqrt(max(variance, 0.0)), confidence=confidence)


def mean_of_independent(comparisons: Sequence[Comparison], *, confidence: float = 0.95) -> Comparison:
    """Combine comparisons on disjoint slides (a fresh draw of data each): the mean of k differences.

    Its standard error is sqrt(sum of squared errors) / k.
    """
    for found in comparisons:
        if found.difference is None:
            return found
    differences = [found.difference or 0.0 for found in comparisons]
    errors = [found.standard_error or 0.0 for found in comparisons]
    return _normal_test(
        float(np.mean(differences)), math.hypot(*errors) / len(comparisons), confidence=confidence
    )


def bootstrap_test(
    first: PerResample, second: PerResample, *, difference: float, confidence: float = 0.95
) -> Comparison:
    """Compare a metric by its values in the same resamples of patients.

    The interval holds the central differences of the B resamples; p = 2 min(1 + #{d <= 0}, 1 + #{d >= 0}) /
    (B + 1), at most 1: where it is below 1 - confidence, 0 lies outside the interval, but for the rounding of
    a count (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, sections 13.3 and 15.4; the 1 of
    Davison and Hinkley, Bootstrap Methods and their Application, 1997, eq. 4.11: no p-value is 0).

    Args:
        first: the metric in each resample.
        second: of the other score, in the same resamples.
        difference: of the metrics on the slides themselves.
        confidence: of the interval, 0-1.
    """
    differences = np.round(first - second, 12)
    interval = percentile_interval(differences, confidence=confidence)
    rarer = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return Comparison(
        difference=difference,
        standard_error=float(differences.std(ddof=1)),
        low=interval.low,
        high=interval.high,
        p_value=min(1.0, 2.0 * (1 + rarer) / (len(differences) + 1)),
    )


def _normal_test(difference: float, error: float, *, confidence: float) -> Comparison:
    difference = round(difference, 12)
    if error < SMALLEST_ERROR:
        same = abs(difference) < SMALLEST_ERROR
        reason = "" if same else "every pair of slides agrees: the difference has no variance to test it by"
        return Comparison(difference, 0.0, difference, difference, 1.0 if same else None, reason)
    margin = float(ndtri(0.5 + confidence / 2)) * error
    return Comparison(
        difference=difference,
        standard_error=error,
        low=max(-1.0, difference - margin),
        high=min(1.0, difference + margin),
        p_value=math.erfc(abs(difference) / error / math.sqrt(2.0)),
    )


def _too_few(labels: Bool[np.ndarray, "slides"], cases: Int64[np.ndarray, "slides"]) -> str:
    for name, chosen in (("positive", labels), ("negative", ~labels)):
        found = len(np.unique(cases[chosen]))
        if found < 2:  # noqa: PLR2004 - a variance needs two
            return f"{found} cases with {name} slides; a test needs at least 2"
    return ""


def _midranks(scores: Scores) -> Scores:
    return np.stack([midranks(row) for row in scores])


def _sum_by_case(
    values: Scores, cases: Int64[np.ndarray, "slides"], *, count: int
) -> Float64[np.ndarray, "scores cases"]:
    return np.stack([np.bincount(cases, weights=row, minlength=count) for row in values])


def _unbiased(cases: Int64[np.ndarray, "slides"]) -> float:
    found = len(np.unique(cases))
    return found / (found - 1)

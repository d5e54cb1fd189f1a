"""Do probabilities agree with frequencies? Pure functions on labels and probabilities of slides.

Everywhere: `labels` (slides,) True for positive; `probabilities` (slides,) in [0, 1]. Logarithms clip a
probability to [SMALLEST, 1 - SMALLEST]: one slide called with certainty and wrongly costs 27.6, not infinity.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import expit, ndtri

from wsi_kd.evaluation.classification import Metric

Labels: TypeAlias = Bool[np.ndarray, "slides"]
Probabilities: TypeAlias = Float64[np.ndarray, "slides"]
BinOf: TypeAlias = Int64[np.ndarray, "slides"]

SMALLEST = 1e-12
MAX_BINS = 10
SLIDES_A_BIN = 10
MIN_BINS = 2
COLDEST, HOTTEST = 1e-3, 1e3
HALVINGS = 100
DRAWS = 200
CONVERGED = 1e-12


class Recalibration(NamedTuple):
    """A coefficient of logit P(y = 1) = a + b logit(p), and how much each slide moves it."""

    value: float | None
    influence: Float64[np.ndarray, "slides"]
    """Inverse information times the slide's score: the sum of their squares (over patients) is a variance."""
    reason: str = ""


class Share(NamedTuple):
    """Interval of a share."""

    low: float
    high: float


def logit(probabilities: Probabilities) -> Probabilities:
    """Return log(p / (1 - p)) of the clipped probabilities."""
    clipped = np.clip(probabilities, SMALLEST, 1.0 - SMALLEST)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def log_losses(labels: Labels, probabilities: Probabilities) -> Float64[np.ndarray, "slides"]:
    """Return -log of the probability given to the truth, a slide each."""
    clipped = np.clip(probabilities, SMALLEST, 1.0 - SMALLEST)
    return np.asarray(-np.where(labels, np.log(clipped), np.log1p(-clipped)))


def squared_errors(labels: Labels, probabilities: Probabilities) -> Float64[np.ndarray, "slides"]:
    """Return (p - y)^2, a slide each; their mean is the Brier score (Brier 1950, in its two-class form)."""
    return np.asarray((probabilities - labels) ** 2)


def scale(probabilities: Probabilities, temperature: float) -> Probabilities:
    """Return sigmoid(logit(p) / T); the order of the slides stays.

    >>> scale(np.array([0.5, 0.8]), 2.0).round(3).tolist()  # 0.8 has the odds 4, their root is 2
    [0.5, 0.667]
    """
    return np.asarray(expit(logit(probabilities) / temperature))


def fit_temperature(labels: Labels, probabilities: Probabilities) -> Metric:
    """Return the temperature with the least log loss on these (validation) slides, or why there is none.

    The loss is convex in 1 / T; T is found where its slope sum_i (sigmoid(z_i / T) - y_i) z_i is 0 (Guo et
    al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2, for log-odds z). Where every slide
    is on the right side of 0.5 the loss falls for ever as T falls to 0; where scores do not rise with the
    label it falls as T grows.
    """
    if not len(labels):
        return Metric(None, "no validation slides with a label")
    if not np.isfinite(probabilities).all():
        return Metric(None, "validation scores that are not finite")
    reason = _why_one_class(labels)
    if reason:
        return Metric(None, f"{reason} validation slides")
    odds = logit(probabilities)
    low, high = 1.0 / HOTTEST, 1.0 / COLDEST
    if _slope_at(low, labels, odds) >= 0:
        return Metric(None, "on the validation slides higher scores do not mean positive")
    if _slope_at(high, labels, odds) <= 0:
        return Metric(None, f"all {len(labels)} validation slides are on the right side of 0.5")
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if _slope_at(middle, labels, odds) < 0 else (low, middle)
    return Metric(1.0 / high)


def fit_intercept(labels: Labels, probabilities: Probabilities) -> Recalibration:
    """Fit logit P(y = 1) = a + logit(p): calibration in the large (Cox 1958; Van Calster et al. 2019).

    a solves sum_i (y_i - sigmoid(a + z_i)) = 0; 0 is ideal, above 0 the probabilities are too low.
    """
    reason = _why_one_class(labels)
    if reason:
        return Recalibration(None, np.zeros(len(labels)), reason)
    odds = logit(probabilities)
    low, high = -100.0, 100.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if (labels - expit(middle + odds)).sum() > 0 else (low, middle)
    fitted = expit(high + odds)
    influence = (labels - fitted) / (fitted * (1.0 - fitted)).sum()
    return Recalibration(float(high), np.asarray(influence))


def fit_slope(labels: Labels, probabilities: Probabilities) -> Recalibration:
    """Fit logit P(y = 1) = a + b logit(p) and return b, the calibration slope: 1 is ideal, below 1 too sure.

    Newton's method with halved steps; without an overlap of the classes b is infinite (Albert and Anderson,
    Biometrika 1984), which is told and not returned.
    """
    reason = _why_one_class(labels)
    odds = logit(probabilities)
    if not reason:
        reason = _why_no_slope(odds[labels], odds[~labels])
    if reason:
        return Recalibration(None, np.zeros(len(labels)), reason)
    spread = float(odds.std())
    design = np.stack([np.ones_like(odds), (odds - odds.mean()) / spread], axis=1)
    fitted = _logistic(design, labels)
    probability = expit(design @ fitted)
    information = (design * (probability * (1.0 - probability))[:, None]).T @ design
    influence = np.linalg.solve(information, (design * (labels - probability)[:, None]).T)
    return Recalibration(float(fitted[1]) / spread, np.asarray(influence[1] / spread))


def equal_mass_bins(probabilities: Probabilities) -> BinOf:
    """Put slides of neighboring probability together; bins hold about as many slides each.

    Ten bins, or as many as leave ten slides in each, but two at least. Slides of one probability share a bin:
    the cuts are the quantiles, and a slide on a cut belongs above it, so ties can make bins uneven, and some
    may hold none.

    >>> equal_mass_bins(np.array([0.1, 0.9, 0.2, 0.8])).tolist()
    [0, 1, 0, 1]
    """
    bins = min(MAX_BINS, max(MIN_BINS, len(probabilities) // SLIDES_A_BIN))
    cuts = np.quantile(probabilities, np.arange(1, bins) / bins)
    return np.asarray(np.searchsorted(cuts, probabilities, side="right"), dtype=np.int64)


def calibration_error(labels: Labels, probabilities: Probabilities, bin_of: BinOf) -> float:
    """Return the ECE: sum over bins of (share of the slides) x |mean probability - share of positives|.

    Equivalent, with n slides: sum over bins of |sum in the bin of (p - y)| / n (Naeini et al., AAAI 2015).
    """
    return float(np.abs(np.bincount(bin_of, weights=probabilities - labels)).sum() / len(labels))


def error_if_calibrated(probabilities: Probabilities, bin_of: BinOf) -> float:
    """Return the mean ECE of labels drawn with these probabilities: what is left of it without any fault.

    Few slides make an ECE: 20 slides at 0.5 in two bins give 0.12 on average (the consistency resampling of
    Broecker and Smith, Weather and Forecasting 2007, for the sum over bins). 200 draws, always the same ones.
    """
    generator = np.random.default_rng(0)
    order = np.argsort(probabilities, kind="stable")  # so that the order of the slides does not matter
    ranked, bins = probabilities[order], bin_of[order]
    errors = [calibration_error(generator.random(len(ranked)) < ranked, ranked, bins) for _ in range(DRAWS)]
    return float(np.mean(errors))


def wilson_interval(share: float, trials: int, *, confidence: float) -> Share:
    """Return the interval of a share of `trials` (Wilson, JASA 1927); at a share of 0 it still has width.

    >>> [round(end, 4) for end in wilson_interval(0.5, 10, confidence=0.95)]
    [0.2366, 0.7634]
    """
    z = float(ndtri(0.5 + confidence / 2))
    center = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    margin = z / (1 + z**2 / trials) * (share * (1 - share) / trials + z**2 / (4 * trials**2)) ** 0.5
    return Share(max(0.0, center - margin), min(1.0, center + margin))


def _slope_at(inverse: float, labels: Labels, odds: Probabilities) -> float:
    return float(((expit(inverse * odds) - labels) * odds).sum())


def _why_one_class(labels: Labels) -> str:
    positives = int(labels.sum())
    if positives in {0, len(labels)}:
        return f"no {'negatives' if positives else 'positives'} among {len(labels)}"
    return ""


def _why_no_slope(
    positive: Float64[np.ndarray, "positives"], negative: Float64[np.ndarray, "negatives"]
) -> str:
    if positive.min() == positive.max() == negative.min() == negative.max():
        return "every slide has the same probability"
    if positive.min() >= negative.max() or negative.min() >= positive.max():
        return "the classes do not overlap: the slope has no finite value"
    return ""


def _logistic(design: Float64[np.ndarray, "slides two"], labels: Labels) -> Float64[np.ndarray, "two"]:
    fitted = np.zeros(design.shape[1])
    loss = _negative_log_likelihood(design @ fitted, labels)
    for _ in range(HALVINGS):
        probability = expit(design @ fitted)
        information = (design * (probability * (1.0 - probability))[:, None]).T @ design
        step = np.linalg.solve(information, design.T @ (labels - probability))
        while (found := _negative_log_likelihood(design @ (fitted + step), labels)) > loss + CONVERGED:
            step = step / 2
        fitted, gain, loss = fitted + step, loss - found, found
        if gain <= CONVERGED * (1.0 + loss):
            break
    return fitted


def _negative_log_likelihood(odds: Probabilities, labels: Labels) -> float:
    return float((np.logaddexp(0.0, odds) - odds * labels).sum())

"""Decision curve: is calling slides by the model worth more than calling all, or none, of them positive?

Net benefit at the threshold probability t, with n slides: NB(t) = TP(t) / n - FP(t) / n * t / (1 - t); t is
the probability at which a false alarm and a missed case weigh the same, so that t / (1 - t) is the price of a
false positive in true positives. Treat all: prevalence - (1 - prevalence) t / (1 - t); treat none: 0 (Vickers
and Elkin, Medical Decision Making 2006, eq. 1).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64

from wsi_kd.evaluation.intervals import CaseCounts
from wsi_kd.evaluation.sampled_scores import Sampled, band, rounded
from wsi_kd.evaluation.schema import DecisionCurve
from wsi_kd.evaluation.scored_slides import SlideScores

THRESHOLDS = np.arange(1, 100) / 100
"""Threshold probabilities, 0.01 to 0.99."""
PRICE = (THRESHOLDS / (1.0 - THRESHOLDS))[:, None]


def net_benefit(
    labels: Bool[np.ndarray, "slides"], probabilities: Float64[np.ndarray, "slides"]
) -> Float64[np.ndarray, "thresholds"]:
    """Return the net benefit at each of `THRESHOLDS`; a slide is called where probability >= threshold.

    >>> found = net_benefit(np.array([True, False]), np.array([0.9, 0.3]))
    >>> [round(float(found[at - 1]), 3) for at in (20, 50, 95)]  # (1 - 1 / 4) / 2, 1 / 2, nothing called
    [0.375, 0.5, 0.0]
    """
    gains = _gains(labels, probabilities)
    return np.asarray(gains.mean(axis=1))


def decision_curve(
    sampled: Sampled, *, scaled: Sequence[Float64[np.ndarray, "slides"]] | None
) -> DecisionCurve:
    """Draw the net benefit of a score, mean over seeds, with the band of the resampled patients.

    Args:
        sampled: the test slides.
        scaled: of each seed's pooled slides, the probabilities after temperature scaling; None without.
    """
    if sampled.reason:
        return _no_curve(sampled.reason)
    mean = np.mean([net_benefit(part.labels > 0, part.scores) for part in sampled.pooled], axis=0)
    prevalence = float((sampled.pooled[0].labels > 0).mean())
    low: list[float] | None = None
    high: list[float] | None = None
    if sampled.resamples is not None:
        counts = sampled.resamples.counts
        curves = [_resampled(sampled, at, counts) for at in range(len(sampled.pooled))]
        low, high = band(np.asarray(np.mean(curves, axis=0)), confidence=sampled.confidence)
    return {
        "thresholds": rounded(THRESHOLDS),
        "model": rounded(mean),
        "low": low,
        "high": high,
        "scaled": None if scaled is None else rounded(_mean_scaled(sampled.pooled, scaled)),
        "all": rounded(prevalence - (1.0 - prevalence) * PRICE[:, 0]),
        "none": 0.0,
        "prevalence": prevalence,
        "reason": "",
    }


def _no_curve(reason: str) -> DecisionCurve:
    return {
        "thresholds": [],
        "model": [],
        "low": None,
        "high": None,
        "scaled": None,
        "all": [],
        "none": 0.0,
        "prevalence": None,
        "reason": reason,
    }


def _gains(
    labels: Bool[np.ndarray, "slides"], probabilities: Float64[np.ndarray, "slides"]
) -> Float64[np.ndarray, "thresholds slides"]:
    called = probabilities >= THRESHOLDS[:, None]
    return np.asarray(np.where(labels, 1.0, -PRICE) * called)


def _mean_scaled(
    pooled: Sequence[SlideScores], scaled: Sequence[Float64[np.ndarray, "slides"]]
) -> Float64[np.ndarray, "thresholds"]:
    curves = [
        net_benefit(part.labels > 0, probabilities)
        for part, probabilities in zip(pooled, scaled, strict=True)
    ]
    return np.asarray(np.mean(curves, axis=0))


def _resampled(
    sampled: Sampled, seed: int, counts: CaseCounts
) -> Float64[np.ndarray, "thresholds resamples"]:
    part = sampled.pooled[seed]
    gains = sampled.weighted(seed, _gains(part.labels > 0, part.scores))
    slides = sampled.weighted(seed, np.ones((1, len(part.labels))))
    return np.asarray(gains @ counts / (slides @ counts))

"""Calibration of a score over seeds and folds, before and after temperature scaling, for metrics.json."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64
from scipy.special import ndtri

from wsi_kd.evaluation.aggregates import metric_value, pooled_metric, unknown_metric
from wsi_kd.evaluation.calibration import (
    Recalibration,
    calibration_error,
    equal_mass_bins,
    error_if_calibrated,
    fit_intercept,
    fit_slope,
    fit_temperature,
    log_losses,
    scale,
    squared_errors,
    wilson_interval,
)
from wsi_kd.evaluation.classification import Metric
from wsi_kd.evaluation.intervals import PerResample
from wsi_kd.evaluation.operating_points import first_reason
from wsi_kd.evaluation.sampled_scores import Sampled
from wsi_kd.evaluation.schema import (
    Calibration,
    CalibrationBin,
    CalibrationRecord,
    FoldValue,
    PooledMetric,
)
from wsi_kd.evaluation.scored_slides import SlideScores, pool_seeds

Losses: TypeAlias = Callable[
    [Bool[np.ndarray, "slides"], Float64[np.ndarray, "slides"]], Float64[np.ndarray, "slides"]
]
Fit: TypeAlias = Callable[[Bool[np.ndarray, "slides"], Float64[np.ndarray, "slides"]], Recalibration]

MIN_CASES = 2
"""A variance between patients needs two."""


class Calibrated(NamedTuple):
    """The record, and each seed's pooled probabilities after scaling (None without temperatures)."""

    record: Calibration
    scaled: list[Float64[np.ndarray, "slides"]] | None


def calibrate(sampled: Sampled, validation: Sequence[SlideScores]) -> Calibrated:
    """Measure calibration before and after scaling each model by the temperature of its validation slides."""
    temperatures = [_temperature(part, validation) for part in sampled.parts]
    missing = sampled.reason or first_reason(temperatures)
    scaled = None if missing else _scaled(sampled, temperatures)
    after = _unknown(missing, sampled.confidence) if scaled is None else _record(scaled)
    record: Calibration = {
        "slides": len(sampled.pooled[0].labels),
        "before": _unknown(sampled.reason, sampled.confidence) if sampled.reason else _record(sampled),
        "after": after,
        "temperatures": temperatures,
        "reason": sampled.reason,
    }
    return Calibrated(record, None if scaled is None else [part.scores for part in scaled.pooled])


def _temperature(part: SlideScores, validation: Sequence[SlideScores]) -> FoldValue:
    found = next((one for one in validation if (one.seed, one.fold) == (part.seed, part.fold)), None)
    fitted = (
        Metric(None, "no validation slides")
        if found is None
        else fit_temperature(found.labels > 0, found.scores)
    )
    return {"seed": part.seed, "fold": part.fold or 0, "value": fitted.value, "reason": fitted.reason}


def _scaled(sampled: Sampled, temperatures: Sequence[FoldValue]) -> Sampled:
    parts = tuple(
        part._replace(scores=scale(part.scores, float(one["value"] or 1.0)))
        for part, one in zip(sampled.parts, temperatures, strict=True)
    )
    return sampled._replace(parts=parts, pooled=tuple(pool_seeds(parts)))


def _record(sampled: Sampled) -> CalibrationRecord:
    bins = [equal_mass_bins(part.scores) for part in sampled.pooled]
    errors = [
        calibration_error(part.labels > 0, part.scores, bin_of)
        for part, bin_of in zip(sampled.pooled, bins, strict=True)
    ]
    left = [
        error_if_calibrated(part.scores, bin_of) for part, bin_of in zip(sampled.pooled, bins, strict=True)
    ]
    resampled = [_resampled_error(sampled, at, bin_of) for at, bin_of in enumerate(bins)]
    return {
        "ece": _pooled(sampled, errors, resampled),
        "ece_if_calibrated": float(np.mean(left)),
        "brier": _mean_loss(sampled, squared_errors),
        "log_loss": _mean_loss(sampled, log_losses),
        "slope": _coefficient(sampled, fit_slope),
        "intercept": _coefficient(sampled, fit_intercept),
        "bins": _bins(sampled),
        "reason": "",
    }


def _unknown(reason: str, confidence: float) -> CalibrationRecord:
    unknown = unknown_metric(reason, confidence=confidence)
    return {
        "ece": unknown,
        "ece_if_calibrated": None,
        "brier": unknown,
        "log_loss": unknown,
        "slope": unknown,
        "intercept": unknown,
        "bins": [],
        "reason": reason,
    }


def _pooled(sampled: Sampled, values: Sequence[float], resampled: Sequence[PerResample]) -> PooledMetric:
    return pooled_metric(
        [{"value": value, "reason": ""} for value in values],
        resampled,
        resamples=sampled.resamples,
        confidence=sampled.confidence,
    )


def _mean_loss(sampled: Sampled, losses: Losses) -> PooledMetric:
    found = [losses(part.labels > 0, part.scores) for part in sampled.pooled]
    return _pooled(
        sampled,
        [float(values.mean()) for values in found],
        [_resampled_mean(sampled, at, values) for at, values in enumerate(found)],
    )


def _resampled_mean(sampled: Sampled, seed: int, values: Float64[np.ndarray, "slides"]) -> PerResample:
    if sampled.resamples is None:
        return np.zeros(0)
    total, slides = sampled.weighted(seed, np.stack([values, np.ones_like(values)])) @ (
        sampled.resamples.counts
    )
    return np.asarray(total / slides)


def _resampled_error(sampled: Sampled, seed: int, bin_of: np.ndarray) -> PerResample:
    """Return the ECE of every resample in the bins of the slides themselves."""
    if sampled.resamples is None:
        return np.zeros(0)
    part = sampled.pooled[seed]
    inside = np.arange(int(bin_of.max()) + 1)[:, None] == bin_of
    excess = sampled.weighted(seed, inside * (part.scores - (part.labels > 0)))
    slides = sampled.weighted(seed, np.ones((1, len(bin_of))))
    counts = sampled.resamples.counts
    return np.asarray(np.abs(excess @ counts).sum(axis=0) / (slides @ counts)[0])


def _coefficient(sampled: Sampled, fit: Fit) -> PooledMetric:
    """Return the mean coefficient over seeds; its variance sums influences within a patient and squares them.

    That is the cluster-robust sandwich (Liang and Zeger, Biometrika 1986) of the mean over seeds: refitting a
    thousand resamples would meet separated classes, where there is no slope.
    """
    found = [fit(part.labels > 0, part.scores) for part in sampled.pooled]
    values = [metric_value(Metric(one.value, one.reason)) for one in found]
    cases = len(sampled.cases)
    if cases < MIN_CASES or any(one.value is None for one in found):
        return pooled_metric(values, [], resamples=None, confidence=sampled.confidence)
    moved = np.mean([sampled.weighted(at, one.influence[None])[0] for at, one in enumerate(found)], axis=0)
    error = float(np.sqrt((moved**2).sum() * cases / (cases - 1)))
    margin = float(ndtri(0.5 + sampled.confidence / 2)) * error
    estimate = float(np.mean([one["value"] for one in values]))
    return {
        "estimate": estimate,
        "low": estimate - margin,
        "high": estimate + margin,
        "confidence": sampled.confidence,
        "resamples": 0,
        "redrawn": 0,
        "reason": "",
    }


def _bins(sampled: Sampled) -> list[CalibrationBin]:
    """Describe equal-mass bins of all seeds' scores together."""
    scores = np.concatenate([part.scores for part in sampled.pooled])
    positive = np.concatenate([part.labels > 0 for part in sampled.pooled])
    cases = np.concatenate(sampled.case_of)
    bin_of = equal_mass_bins(scores)
    return [
        _bin(scores, positive, cases, chosen=bin_of == at, confidence=sampled.confidence)
        for at in np.unique(bin_of)
    ]


def _bin(
    scores: Float64[np.ndarray, "slides"],
    positive: Bool[np.ndarray, "slides"],
    cases: np.ndarray,
    *,
    chosen: Bool[np.ndarray, "slides"],
    confidence: float,
) -> CalibrationBin:
    patients = len(np.unique(cases[chosen]))
    observed = float(positive[chosen].mean())
    interval = wilson_interval(observed, patients, confidence=confidence)
    return {
        "low": float(scores[chosen].min()),
        "high": float(scores[chosen].max()),
        "count": int(chosen.sum()),
        "cases": patients,
        "mean_probability": float(scores[chosen].mean()),
        "observed": observed,
        "observed_low": interval.low,
        "observed_high": interval.high,
    }

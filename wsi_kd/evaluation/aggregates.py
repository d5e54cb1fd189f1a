"""From metrics of many seeds and folds to the records of `schema`: spreads, estimates with intervals."""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from wsi_kd.evaluation.classification import Metric
from wsi_kd.evaluation.intervals import PerResample, Resamples, percentile_interval
from wsi_kd.evaluation.schema import MetricValue, PooledMetric, Spread, Summary

MIN_DEFINED = 0.5
"""Share of the resamples in which a metric must be defined for an interval."""
TOO_FEW_CASES = (
    "too few cases for a bootstrap interval: each resample must hold slides of every class, or of tiles both "
    "labels and a slide with both"
)


def metric_value(metric: Metric) -> MetricValue:
    """Write a metric as JSON."""
    return {"value": metric.value, "reason": metric.reason}


def spread(metrics: Sequence[MetricValue]) -> Spread:
    """Return mean and sample standard deviation of the defined values.

    >>> values = [{"value": 0.5, "reason": ""}, {"value": 1.0, "reason": ""}]
    >>> spread([*values, {"value": None, "reason": "no positives"}])
    {'mean': 0.75, 'sd': 0.3535533905932738, 'count': 2}
    """
    values = [metric["value"] for metric in metrics if metric["value"] is not None]
    return {
        "mean": float(np.mean(values)) if values else None,
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "count": len(values),
    }


def summarize(
    names: Sequence[str],
    *,
    per_seed: Sequence[Mapping[str, object]],
    per_fold: Sequence[Mapping[str, object]],
    resampled: Sequence[Mapping[str, PerResample]],
    resamples: Resamples | None,
    confidence: float,
) -> Summary:
    """Summarize the metrics `names` of the records of every seed and every fold.

    `resampled[s]` are the metrics of seed s, one value a resample.
    """
    return {
        "pooled": {
            name: pooled_metric(
                _column(per_seed, name),
                [values[name] for values in resampled],
                resamples=resamples,
                confidence=confidence,
            )
            for name in names
        },
        "over_seeds": {name: spread(_column(per_seed, name)) for name in names},
        "over_folds": {name: spread(_column(per_fold, name)) for name in names},
    }


def pooled_metric(
    per_seed: Sequence[MetricValue],
    resampled: Sequence[PerResample],
    *,
    resamples: Resamples | None,
    confidence: float,
) -> PooledMetric:
    """Return the mean over seeds and the percentile interval of the same mean over the resamples.

    `resampled[s]` are the metric's values of seed s, one a resample; NaN where a resample does not define it
    (no positive call, so no predictive value): those are left out, and without half of them there is no
    interval.
    """
    undefined = next((metric["reason"] for metric in per_seed if metric["value"] is None), "")
    record: PooledMetric = {
        "estimate": None if undefined else spread(per_seed)["mean"],
        "low": None,
        "high": None,
        "confidence": confidence,
        "resamples": 0,
        "redrawn": 0,
        "reason": undefined,
    }
    if undefined:
        return record
    if resamples is None:
        return {**record, "reason": TOO_FEW_CASES}
    values = np.mean(np.stack(list(resampled)), axis=0)
    defined = values[np.isfinite(values)]
    if len(defined) < MIN_DEFINED * len(values):
        return {**record, "reason": "undefined in most resamples of patients, so there is no interval"}
    interval = percentile_interval(defined, confidence=confidence)
    return {
        **record,
        "low": interval.low,
        "high": interval.high,
        "resamples": len(defined),
        "redrawn": resamples.redrawn,
    }


def unknown_metric(reason: str, *, confidence: float) -> PooledMetric:
    """Write a metric that cannot be had."""
    return pooled_metric([{"value": None, "reason": reason}], [], resamples=None, confidence=confidence)


def _column(records: Sequence[Mapping[str, object]], name: str) -> list[MetricValue]:
    return [cast("MetricValue", record[name]) for record in records]

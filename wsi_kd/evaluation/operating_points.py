"""Calls at thresholds that were chosen on validation slides: the same rules for every model, none on test."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float64

from wsi_kd.evaluation.aggregates import pooled_metric, unknown_metric
from wsi_kd.evaluation.classification import Confusion, Metric, confusion, threshold_by
from wsi_kd.evaluation.intervals import PerResample
from wsi_kd.evaluation.sampled_scores import Sampled, SlidePlan, share
from wsi_kd.evaluation.schema import FoldValue, MetricValue, OperatingPoint, OperatingSeed
from wsi_kd.evaluation.scored_slides import SlideScores, pool_seeds

CHECKPOINT: Final = "checkpoint"
CHOSEN_ON: Final = "val"
RATES: Final = ("sensitivity", "specificity", "ppv", "npv")


class Rule(NamedTuple):
    """How a threshold is chosen."""

    name: str
    target: float | None


def operating_points(sampled: Sampled, plan: SlidePlan) -> list[OperatingPoint]:
    """Measure the calls of every rule: Youden, fixed sensitivity, fixed specificity, the checkpoint's own.

    Each model (seed and fold) has its own threshold, chosen on its validation slides; its test slides are
    called with it, and calls are counted over the folds of a seed.
    """
    rules = (
        Rule("youden", None),
        Rule("sensitivity", plan.sensitivity),
        Rule("specificity", plan.specificity),
        Rule(CHECKPOINT, None),
    )
    validation = {(part.seed, part.fold): part for part in plan.validation}
    return [
        _operating_point(sampled, [_threshold(part, validation, rule) for part in sampled.parts], rule)
        for rule in rules
    ]


def _threshold(
    part: SlideScores, validation: dict[tuple[int, int | None], SlideScores], rule: Rule
) -> FoldValue:
    found = validation.get((part.seed, part.fold))
    if rule.name == CHECKPOINT:
        chosen = Metric(part.threshold, "" if part.threshold is not None else "stored without a threshold")
    elif found is None:
        chosen = Metric(None, "no validation slides")
    else:
        chosen = threshold_by(found.labels > 0, found.scores, rule=rule.name, target=rule.target)
    return {"seed": part.seed, "fold": part.fold or 0, "value": chosen.value, "reason": chosen.reason}


def _operating_point(sampled: Sampled, thresholds: list[FoldValue], rule: Rule) -> OperatingPoint:
    reason = sampled.reason or first_reason(thresholds)
    pooled = [] if reason else pool_seeds(_called(sampled.parts, thresholds))
    counts = [confusion(part.labels > 0, part.calls) for part in pooled]
    per_seed = [_seed_record(part.seed, found) for part, found in zip(pooled, counts, strict=True)]
    resampled = [_resampled(sampled, at, part) for at, part in enumerate(pooled)]
    values: dict[str, list[MetricValue]] = {
        "sensitivity": [one["sensitivity"] for one in per_seed],
        "specificity": [one["specificity"] for one in per_seed],
        "ppv": [one["ppv"] for one in per_seed],
        "npv": [one["npv"] for one in per_seed],
    }
    rates = {
        name: unknown_metric(reason, confidence=sampled.confidence)
        if reason
        else pooled_metric(
            values[name],
            [rates[name] for rates in resampled],
            resamples=sampled.resamples,
            confidence=sampled.confidence,
        )
        for name in RATES
    }
    return {
        "rule": rule.name,
        "target": rule.target,
        "chosen_on": CHOSEN_ON,
        "thresholds": thresholds,
        "per_seed": per_seed,
        "confusion": _mean_confusion(counts),
        "sensitivity": rates["sensitivity"],
        "specificity": rates["specificity"],
        "ppv": rates["ppv"],
        "npv": rates["npv"],
        "reason": reason,
    }


def first_reason(values: Sequence[FoldValue]) -> str:
    """Return why the first model without a value has none, naming seed and fold; else an empty text."""
    for one in values:
        if one["value"] is None:
            return f"seed {one['seed']}, fold {one['fold']}: {one['reason']}"
    return ""


def _called(parts: Sequence[SlideScores], thresholds: Sequence[FoldValue]) -> list[SlideScores]:
    return [
        part._replace(calls=part.scores >= float(at["value"] or 0.0))
        for part, at in zip(parts, thresholds, strict=True)
    ]


def _seed_record(seed: int, found: Confusion) -> OperatingSeed:
    true_positive, false_positive, true_negative, false_negative = found
    return {
        "seed": seed,
        "confusion": {
            "true_positive": true_positive,
            "false_positive": false_positive,
            "true_negative": true_negative,
            "false_negative": false_negative,
        },
        "sensitivity": _ratio(true_positive, true_positive + false_negative, "no positive slides"),
        "specificity": _ratio(true_negative, true_negative + false_positive, "no negative slides"),
        "ppv": _ratio(true_positive, true_positive + false_positive, "no slide is called positive"),
        "npv": _ratio(true_negative, true_negative + false_negative, "no slide is called negative"),
    }


def _ratio(part: int, whole: int, reason: str) -> MetricValue:
    return {"value": part / whole, "reason": ""} if whole else {"value": None, "reason": reason}


def _mean_confusion(counts: Sequence[Confusion]) -> dict[str, float] | None:
    if not counts:
        return None
    means = np.mean(np.array(counts, dtype=np.float64), axis=0)
    return {name: float(mean) for name, mean in zip(Confusion._fields, means, strict=True)}


def _resampled(sampled: Sampled, seed: int, part: SlideScores) -> dict[str, PerResample]:
    if sampled.resamples is None:
        return dict.fromkeys(RATES, np.zeros(0))
    positive = part.labels > 0
    kinds: Float64[np.ndarray, "kinds slides"] = np.stack(
        [positive & part.calls, ~positive & part.calls, ~positive & ~part.calls, positive & ~part.calls]
    ).astype(np.float64)
    true_positive, false_positive, true_negative, false_negative = (
        sampled.weighted(seed, kinds) @ sampled.resamples.counts
    )
    return {
        "sensitivity": share(true_positive, true_positive + false_negative),
        "specificity": share(true_negative, true_negative + false_positive),
        "ppv": share(true_positive, true_positive + false_positive),
        "npv": share(true_negative, true_negative + false_negative),
    }

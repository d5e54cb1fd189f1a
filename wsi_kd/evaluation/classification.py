"""Metrics of one score at slide level. What the data cannot give is None with a reason, never NaN.

Everywhere: `labels` (slides,) 1 positive, 0 negative; `scores` (slides,) higher means more positive; a call
is positive when score >= threshold.
"""

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int

from wsi_kd.core.errors import BadInput
from wsi_kd.evaluation.empirical_curves import CurveAreas, curve_areas, roc_points

Labels: TypeAlias = Int[np.ndarray, "slides"] | Bool[np.ndarray, "slides"]
Scores: TypeAlias = Float[np.ndarray, "slides"]


class Metric(NamedTuple):
    """A number, or the reason why there is none."""

    value: float | None
    reason: str = ""


class Confusion(NamedTuple):
    """Counts of calls against labels."""

    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int


class OperatingPoint(NamedTuple):
    """What a threshold costs and buys."""

    confusion: Confusion
    sensitivity: Metric
    specificity: Metric
    balanced_accuracy: Metric
    f1: Metric


def roc_auc(labels: Labels, scores: Scores) -> Metric:
    """Area under the ROC curve = P(score of a positive > score of a negative), ties counted half."""
    reason = _why_undefined(labels)
    return Metric(None, reason) if reason else Metric(_areas(labels, scores).roc_auc)


def average_precision(labels: Labels, scores: Scores) -> Metric:
    """Average precision, sum over thresholds of (R_n - R_{n-1}) P_n; chance is the share of positives."""
    reason = _why_undefined(labels)
    return Metric(None, reason) if reason else Metric(_areas(labels, scores).average_precision)


def macro_auc(
    labels: Int[np.ndarray, "slides"], probabilities: Float[np.ndarray, "slides classes"]
) -> Metric:
    """Mean of the one-vs-rest AUCs of all classes; `labels` are class indices, every class must be there."""
    areas = [roc_auc(labels == index, probabilities[:, index]) for index in range(probabilities.shape[1])]
    for index, area in enumerate(areas):
        if area.value is None:
            return Metric(None, f"class {index} against the rest: {area.reason}")
    return Metric(float(np.mean([area.value for area in areas if area.value is not None])))


def confusion(labels: Labels, calls: Bool[np.ndarray, "slides"]) -> Confusion:
    """Count calls (True = positive) against labels."""
    truth = labels.astype(bool)
    return Confusion(
        true_positive=int((truth & calls).sum()),
        false_positive=int((~truth & calls).sum()),
        true_negative=int((~truth & ~calls).sum()),
        false_negative=int((truth & ~calls).sum()),
    )


def operating_point(labels: Labels, calls: Bool[np.ndarray, "slides"]) -> OperatingPoint:
    """Return sensitivity TP/(TP+FN), specificity TN/(TN+FP), their mean, and F1 = 2TP/(2TP+FP+FN)."""
    counts = confusion(labels, calls)
    positives = counts.true_positive + counts.false_negative
    negatives = counts.true_negative + counts.false_positive
    sensitivity = _ratio(counts.true_positive, positives, "no positive slides")
    specificity = _ratio(counts.true_negative, negatives, "no negative slides")
    if sensitivity.value is None or specificity.value is None:
        balanced = Metric(None, sensitivity.reason or specificity.reason)
    else:
        balanced = Metric((sensitivity.value + specificity.value) / 2)
    harmonic = 2 * counts.true_positive + counts.false_positive + counts.false_negative
    f1 = _ratio(2 * counts.true_positive, harmonic, "no positive slides and no positive calls")
    return OperatingPoint(counts, sensitivity, specificity, balanced, f1)


def choose_threshold(labels: Labels, scores: Scores, *, rule: str, min_sensitivity: float) -> float:
    """Choose the operating point, to be called on the validation part only.

    `youden`: the largest sensitivity + specificity - 1; `sensitivity`: the largest specificity among the
    thresholds that keep `min_sensitivity`. The threshold is put halfway between the lowest score still called
    positive and the next lower one, so that rounding cannot flip a call; among equal choices the highest
    wins. With one class only there is nothing to choose on: 0.5.

    >>> scores = np.array([0.1, 0.4, 0.6, 0.9])
    >>> choose_threshold(np.array([0, 0, 1, 1]), scores, rule="youden", min_sensitivity=0.9)
    0.5

    Raises:
        BadInput: an unknown rule.
    """
    if rule not in {"youden", "sensitivity"}:
        raise BadInput(f"unknown threshold_rule '{rule}'; known: sensitivity, youden")
    return 0.5 if _why_undefined(labels) else _chosen_cut(labels, scores, rule=rule, target=min_sensitivity)


def threshold_by(labels: Labels, scores: Scores, *, rule: str, target: float | None) -> Metric:
    """Choose an operating point as `choose_threshold` does, or tell why it cannot be; for validation slides.

    A third rule, `specificity`: the largest sensitivity among the thresholds that keep the specificity
    `target`; of `sensitivity` the target is the sensitivity kept, `youden` has none.

    >>> scores = np.array([0.1, 0.4, 0.6, 0.9])
    >>> threshold_by(np.array([0, 1, 0, 1]), scores, rule="specificity", target=1.0).value
    0.75
    """
    if not len(labels):
        return Metric(None, "no validation slides with a label")
    strange = int((~np.isfinite(scores)).sum())
    if strange:
        return Metric(None, f"{strange} of {len(scores)} validation scores are not finite")
    reason = _why_undefined(labels)
    if reason:
        return Metric(None, f"{reason} validation slides")
    return Metric(_chosen_cut(labels, scores, rule=rule, target=1.0 if target is None else target))


def _areas(labels: Labels, scores: Scores) -> CurveAreas:
    return curve_areas(labels.astype(bool), _finite(scores))


def _finite(scores: Scores) -> Scores:
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite")
    return scores


def _chosen_cut(labels: Labels, scores: Scores, *, rule: str, target: float) -> float:
    false_rate, true_rate, cuts = roc_points(labels.astype(bool), _finite(scores))
    if rule == "youden":
        chosen = int(np.argmax(np.round(true_rate - false_rate, 12)))  # 2/3 - 1/3 and 1 - 2/3 are one choice
    elif rule == "sensitivity":
        kept = np.flatnonzero(true_rate >= target - 1e-12)
        chosen = int(kept[np.argmin(false_rate[kept])])
    else:
        kept = np.flatnonzero(1.0 - false_rate >= target - 1e-12)
        chosen = int(kept[np.argmax(true_rate[kept])])
    return _midway(float(cuts[chosen]), scores)


def _midway(cut: float, scores: Scores) -> float:
    if math.isinf(cut):  # nothing is called positive: a threshold above every score
        return float(np.nextafter(scores.max(), np.inf))
    below = scores[scores < cut]
    middle = float((cut + below.max()) / 2) if below.size else cut / 2
    return middle if not below.size or middle > below.max() else cut  # neighboring floats have no middle


def _why_undefined(labels: Labels) -> str:
    positives = int(np.count_nonzero(labels))
    if positives == 0:
        return f"no positives among {len(labels)}"
    if positives == len(labels):
        return f"no negatives among {len(labels)}"
    return ""


def _ratio(part: int, whole: int, reason: str) -> Metric:
    return Metric(part / whole) if whole else Metric(None, reason)

"""How well a score finds the positive instances: pure functions on arrays, for benchmarks and for evaluate.

`labels` (instances,) True = positive; `scores` (instances,) higher means more positive; `bag` (instances,)
the bag of each, in any order; `positive_bags` (bags,). Three questions, each with ROC AUC and average
precision (AP, the area under the precision-recall curve): over all bags, over the instances of positive bags
pooled, and within each bag (mean over the bags that hold both labels). Definitions and traps:
docs/measures.md.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from wsi_kd.evaluation.classification import Metric, average_precision, roc_auc
from wsi_kd.evaluation.empirical_curves import curve_areas

Labels: TypeAlias = Bool[np.ndarray, "instances"]
Scores: TypeAlias = Float[np.ndarray, "instances"]
BagOf: TypeAlias = Int64[np.ndarray, "instances"]
PositiveBags: TypeAlias = Bool[np.ndarray, "bags"]


class InstanceMeasures(NamedTuple):
    """The six measures; one that the labels cannot give is None with a reason."""

    roc_auc: Metric
    average_precision: Metric
    roc_auc_positive_bags: Metric
    average_precision_positive_bags: Metric
    roc_auc_within_bag: Metric
    average_precision_within_bag: Metric


class ChanceLevels(NamedTuple):
    """What a score without information gets as average precision: the share of positives; AUC gets 0.5."""

    average_precision: float | None
    average_precision_positive_bags: float | None
    average_precision_within_bag: float | None


class WithinBags(NamedTuple):
    """Areas within each bag that holds both labels."""

    roc_auc: Float64[np.ndarray, "mixed"]
    average_precision: Float64[np.ndarray, "mixed"]
    bags: Int64[np.ndarray, "mixed"]


class MixedBags(NamedTuple):
    """The bags that hold both labels, in order, and the share of positives in each."""

    bags: Int64[np.ndarray, "mixed"]
    share: Float64[np.ndarray, "mixed"]


def measure_instances(
    labels: Labels, scores: Scores, *, bag: BagOf, positive_bags: PositiveBags
) -> InstanceMeasures:
    """Measure one score of instances.

    >>> labels, scores = np.array([True, False, True, False, False]), np.array([0.9, 0.2, 0.4, 0.3, 0.8])
    >>> found = measure_instances(
    ...     labels, scores, bag=np.array([0, 0, 0, 1, 1]), positive_bags=np.array([True, False])
    ... )
    >>> round(found.roc_auc.value, 3), found.roc_auc_positive_bags.value, found.roc_auc_within_bag.value
    (0.833, 1.0, 1.0)
    """
    inside = positive_bags[bag]
    within = within_bags(labels, scores, bag=bag)
    return InstanceMeasures(
        roc_auc=roc_auc(labels, scores),
        average_precision=average_precision(labels, scores),
        roc_auc_positive_bags=roc_auc(labels[inside], scores[inside]),
        average_precision_positive_bags=average_precision(labels[inside], scores[inside]),
        roc_auc_within_bag=_mean(within.roc_auc),
        average_precision_within_bag=_mean(within.average_precision),
    )


def chance_levels(labels: Labels, *, bag: BagOf, positive_bags: PositiveBags) -> ChanceLevels:
    """Return the share of positives over all bags, over positive bags, and the mean share within bags."""
    inside = labels[positive_bags[bag]]
    within = mixed_bags(labels, bag=bag).share
    shares = (float(part.mean()) if len(part) else None for part in (labels, inside, within))
    return ChanceLevels(*shares)


def within_bags(labels: Labels, scores: Scores, *, bag: BagOf) -> WithinBags:
    """Return both areas within each bag that holds both labels; any rescaling of a bag leaves them alone."""
    order = np.argsort(bag, kind="stable")
    mixed = mixed_bags(labels, bag=bag)
    starts = np.searchsorted(bag[order], np.stack([mixed.bags, mixed.bags + 1]))
    found = [curve_areas(labels[chosen], scores[chosen]) for chosen in (order[a:b] for a, b in starts.T)]
    return WithinBags(
        roc_auc=np.array([areas.roc_auc for areas in found], dtype=np.float64),
        average_precision=np.array([areas.average_precision for areas in found], dtype=np.float64),
        bags=mixed.bags,
    )


def mixed_bags(labels: Labels, *, bag: BagOf) -> MixedBags:
    """Return the bags that hold both labels, and each one's share of positives."""
    positives = np.bincount(bag, weights=labels)
    share = positives / np.maximum(np.bincount(bag), 1)
    bags = np.flatnonzero((share > 0) & (share < 1))
    return MixedBags(bags, share[bags])


def attention_evidence(attention_times_instances: Scores, evidence_probability: Scores) -> Scores:
    """Return (attention x instances of the bag) x sigmoid(evidence log-odds): looked at, and positive.

    Attention alone says more than its neighbors, evidence alone is not asked where the model looks.

    Args:
        attention_times_instances: the bag's softmax times its number of instances, 1 = even spread.
        evidence_probability: the bag classifier's probability of any positive class on the instance alone.
    """
    return np.asarray(attention_times_instances * evidence_probability)


def _mean(areas: Float64[np.ndarray, "mixed"]) -> Metric:
    return Metric(float(areas.mean())) if len(areas) else Metric(None, "no slide has tiles of both labels")

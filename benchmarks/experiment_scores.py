"""What is measured of one method on one part: AUCs of bags and instances, accuracies of bags."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from scipy.special import expit, softmax
from torch import Tensor

from wsi_kd.bags.datasets import BagSet
from wsi_kd.evaluation.classification import choose_threshold, roc_auc
from wsi_kd.evaluation.instance_measures import attention_evidence, measure_instances
from wsi_kd.inference.predict import evaluating
from wsi_kd.mil.weno import TeacherStudent

Measures: TypeAlias = dict[str, float]
"""Column -> value; what the data cannot give is absent."""
PerBag: TypeAlias = Float64[np.ndarray, "bags"]
PerInstance: TypeAlias = Float64[np.ndarray, "instances"]
Offsets: TypeAlias = Int64[np.ndarray, "bags_and_1"]

INSTANCE_SCORES: Final = ("attention", "attention_evidence", "evidence", "student")


class Pooling(NamedTuple):
    """How scores of instances become the answer for their bag."""

    student_pooling: str
    """max or topk."""
    top_k: int


class Scored(NamedTuple):
    """Scores of a part's bags and instances, log-odds but for attention: higher = more positive."""

    bags: Mapping[str, PerBag]
    """`teacher`, `student_max`, `student_topk`, `student_mean`: those the method has."""
    instances: Mapping[str, PerInstance]
    """Those of `INSTANCE_SCORES` that the method has."""
    deployed: str
    """Which bag score is the method's answer."""


def score_model(model: TeacherStudent, bags: BagSet, pooling: Pooling) -> Scored:
    """Score a part; the method's answer is the student's pooled logit where there is a student.

    Attention is compared across bags times their number of instances (1 = even spread).
    """
    features = torch.from_numpy(np.ascontiguousarray(bags.features, dtype=np.float32))
    with evaluating(model), torch.inference_mode():
        output = model(features, torch.from_numpy(bags.offsets))
    evidence = _float64(output.evidence.diff(dim=1))
    attention = _attention_times_instances(_float64(output.attention_logits), bags.offsets)
    instances = {
        "attention": attention,
        "attention_evidence": attention_evidence(attention, expit(evidence)),
        "evidence": evidence,
    }
    by_bag = {"teacher": _float64(output.bag_logits.diff(dim=1))}
    if output.instance_logits is None:
        return Scored(by_bag, instances, "teacher")
    student = _float64(output.instance_logits)
    return Scored(
        {**by_bag, **pool_bags(student, bags.offsets, top_k=pooling.top_k)},
        {**instances, "student": student},
        f"student_{pooling.student_pooling}",
    )


def pool_bags(logits: PerInstance, offsets: Offsets, *, top_k: int) -> dict[str, PerBag]:
    """Pool log-odds of instances: the largest, the mean of the `top_k` largest (or all), the mean of all."""
    descending = [-np.sort(-logits[start:end]) for start, end in pairwise(offsets)]
    return {
        "student_max": np.array([values[0] for values in descending]),
        "student_topk": np.array([values[:top_k].mean() for values in descending]),
        "student_mean": np.array([values.mean() for values in descending]),
    }


def measure(scored: Scored, bags: BagSet, *, hard: Bool[np.ndarray, "instances"] | None) -> Measures:
    """Measure every score against the truth, as far as it is known.

    Columns: `bag_<score>`, `bag_deployed`; `auc_<score>`, `ap_<score>` (average precision) of instances over
    all bags, with `_inside` inside positive bags; `hard_<score>`: AUC of hard positives against negatives.
    """
    positive = bags.labels > 0
    found = {f"bag_{name}": roc_auc(positive, values).value for name, values in scored.bags.items()}
    found["bag_deployed"] = found[f"bag_{scored.deployed}"]
    known = bags.tile_labels >= 0
    bag_of = np.repeat(np.arange(len(positive)), np.diff(bags.offsets))[known]
    truth = bags.tile_labels[known] == 1
    for name, values in scored.instances.items() if known.any() else ():
        one = measure_instances(truth, values[known], bag=bag_of, positive_bags=positive)
        found[f"auc_{name}"], found[f"ap_{name}"] = one.roc_auc.value, one.average_precision.value
        found[f"auc_{name}_inside"] = one.roc_auc_positive_bags.value
        found[f"ap_{name}_inside"] = one.average_precision_positive_bags.value
        if hard is not None:
            chosen = hard | ~truth
            found[f"hard_{name}"] = roc_auc(truth[chosen], values[chosen]).value
    return {name: value for name, value in found.items() if value is not None}


def measure_accuracy(scored: Scored, bags: BagSet, *, on_val: Scored, val: BagSet) -> Measures:
    """Share of bags called right: at Youden's threshold of `val`, and of the teacher at even odds too.

    A student's odds are shifted by the weights of its loss, so it is not read at even odds.
    """
    found = {}
    for name in dict.fromkeys(("teacher", scored.deployed)):
        if name in scored.bags:
            cut = choose_threshold(val.labels > 0, on_val.bags[name], rule="youden", min_sensitivity=1.0)
            found[f"accuracy_{name}"] = _accuracy(scored.bags[name], bags, cut)
    if "teacher" in scored.bags:
        found["accuracy_even_teacher"] = _accuracy(scored.bags["teacher"], bags, 0.0)
    return {**found, "accuracy_deployed": found[f"accuracy_{scored.deployed}"]}


def _attention_times_instances(attention_logits: PerInstance, offsets: Offsets) -> PerInstance:
    parts = [softmax(attention_logits[start:end]) * (end - start) for start, end in pairwise(offsets)]
    return np.concatenate(parts)


def _float64(logits: Tensor) -> Float64[np.ndarray, "rows"]:
    """One column (or none) to one axis."""
    return logits.to("cpu", torch.float64).numpy().reshape(len(logits))


def _accuracy(scores: PerBag, bags: BagSet, threshold: float) -> float:
    return float(((scores >= threshold) == (bags.labels > 0)).mean())

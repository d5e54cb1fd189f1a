"""Scores of the validation part: whole bags, nothing hidden, no dropout."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from wsi_kd.mil.pooling import segment_max, segment_top_k_mean
from wsi_kd.training.losses import teacher_losses


class Validation(NamedTuple):
    """Losses and AUCs over the bags of the validation part."""

    teacher_loss: float
    teacher_auc: float
    student_loss: float | None
    """Ranking loss of the pooled student logits, mean over the positive classes, each against the rest."""
    student_auc: float | None
    """Mean over the positive classes."""
    instance_loss: float | None = None
    """Mean loss of the instances on their bags' labels, where the student learns from those."""


def score_validation(
    bag_logits: Float[Tensor, "bags classes"],
    student_logits: Float[Tensor, "bags positives"] | None,
    labels: Int64[Tensor, "bags"],
) -> Validation:
    """Score the logits of all validation bags; `student_logits` are pooled, one a bag and positive class."""
    return Validation(
        teacher_loss=teacher_losses(bag_logits, labels).mean().item(),
        teacher_auc=macro_auc(bag_logits.softmax(dim=1), labels),
        student_loss=None if student_logits is None else _macro(ranking_loss, student_logits, labels),
        student_auc=None if student_logits is None else _macro(auc, student_logits, labels),
    )


def pool_student(
    instance_logits: Float[Tensor, "instances positives"],
    offsets: Int64[Tensor, "bags_and_1"],
    *,
    student_pooling: str,
    top_k: int,
) -> Float[Tensor, "bags positives"]:
    """Return the student's logits of each bag: its largest instance's, or the mean of the `top_k` largest.

    Each positive class chooses its own instances.
    """
    if student_pooling == "max":
        return segment_max(instance_logits, offsets)
    of_class = [segment_top_k_mean(column, offsets, top_k=top_k) for column in instance_logits.unbind(dim=1)]
    return torch.stack(of_class, dim=1)


def auc(scores: Float[Tensor, "bags"], positive: Tensor) -> float:
    """P(score of a positive bag > score of a negative one), ties counted half.

    >>> import torch
    >>> auc(torch.tensor([0.1, 0.5, 0.5, 0.9]), torch.tensor([False, False, True, True]))
    0.875
    """
    difference = scores[positive].double()[:, None] - scores[~positive].double()[None, :]
    return ((difference > 0).double() + 0.5 * (difference == 0).double()).mean().item()


def macro_auc(probabilities: Float[Tensor, "bags classes"], labels: Int64[Tensor, "bags"]) -> float:
    """Mean one-against-rest AUC over the classes; with two classes that of class 1."""
    classes = probabilities.shape[1]
    chosen = [1] if classes == 2 else range(classes)  # noqa: PLR2004  # two classes share one curve
    return sum(auc(probabilities[:, index], labels == index) for index in chosen) / len(chosen)


def ranking_loss(scores: Float[Tensor, "bags"], positive: Tensor) -> float:
    """Mean of softplus(negative - positive) over all pairs of a positive and a negative bag.

    The student's loss weighs its halves differently, which shifts every logit by log((1 - w) / w): a cross
    entropy of the bag would measure that shift. Pairs do not see it, and unlike the AUC they never
    saturate.
    """
    return F.softplus(scores[~positive][None, :] - scores[positive][:, None]).mean().item()


def _macro(
    measure: Callable[[Tensor, Tensor], float],
    student_logits: Float[Tensor, "bags positives"],
    labels: Int64[Tensor, "bags"],
) -> float:
    columns = student_logits.unbind(dim=1)
    return sum(measure(column, labels == index) for index, column in enumerate(columns, 1)) / len(columns)

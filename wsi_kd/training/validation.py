"""Scores of the validation part: whole bags, nothing hidden, no dropout."""

from typing import NamedTuple

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
    """Ranking loss of the pooled student logits."""
    student_auc: float | None


def score_validation(
    bag_logits: Float[Tensor, "bags classes"],
    student_logits: Float[Tensor, "bags"] | None,
    labels: Int64[Tensor, "bags"],
) -> Validation:
    """Score the logits of all validation bags; `student_logits` are pooled, one a bag."""
    positive = labels > 0
    return Validation(
        teacher_loss=teacher_losses(bag_logits, labels).mean().item(),
        teacher_auc=macro_auc(bag_logits.softmax(dim=1), labels),
        student_loss=None if student_logits is None else ranking_loss(student_logits, positive),
        student_auc=None if student_logits is None else auc(student_logits, positive),
    )


def pool_student(
    instance_logits: Float[Tensor, "instances"],
    offsets: Int64[Tensor, "bags_and_1"],
    *,
    student_pooling: str,
    top_k: int,
) -> Float[Tensor, "bags"]:
    """Return the student's logit of each bag: its largest instance's, or the mean of the `top_k` largest."""
    if student_pooling == "max":
        return segment_max(instance_logits, offsets)
    return segment_top_k_mean(instance_logits, offsets, top_k=top_k)


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

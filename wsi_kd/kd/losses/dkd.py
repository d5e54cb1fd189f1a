"""Decoupled knowledge distillation: the target class and the other classes are weighted apart.

With y the label, p = softmax(z / T), b = (p_y, 1 - p_y), and q the softmax over all classes but y:

    TCKD = T^2 KL(b_t || b_s)        NCKD = T^2 KL(q_t || q_s)        loss = alpha TCKD + beta NCKD

mean over the samples. Per sample KL(p_t || p_s) = KL(b_t || b_s) + (1 - p_t,y) KL(q_t || q_s): alpha = 1
would give back kd only if beta were 1 - p_t,y, which is next to 0 for a sure teacher. That factor is what
hides the other classes in kd, and what this loss takes away.

Source: Zhao et al., "Decoupled knowledge distillation", CVPR 2022. mdistiller and vanillaKD
subtract 1000 from the target's logit instead of leaving it out (equal to rounding below logits of that size);
vanillaKD takes the largest class of a soft label, as here.
"""

from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from wsi_kd.kd.losses.pairing import class_labels, logit_pair, require_positive, require_weights
from wsi_kd.kd.outputs import LABELS, LOGITS, DistillationLoss, Outputs


class DecoupledTerms(NamedTuple):
    """The two parts of each sample, T^2 inside."""

    target: Float[Tensor, "samples"]
    others: Float[Tensor, "samples"]


def decoupled_terms(
    student_logits: Float[Tensor, "samples classes"],
    teacher_logits: Float[Tensor, "samples classes"],
    labels: Int64[Tensor, "samples"],
    *,
    temperature: float,
) -> DecoupledTerms:
    """Return T^2 KL(b_t || b_s) and T^2 KL(q_t || q_s) of each sample."""
    ours = _split(student_logits / temperature, labels)
    theirs = _split(teacher_logits / temperature, labels)
    divergences = [
        F.kl_div(student, teacher, log_target=True, reduction="none").sum(dim=1) * temperature**2
        for student, teacher in zip(ours, theirs, strict=True)
    ]
    return DecoupledTerms(*divergences)


def _split(
    logits: Float[Tensor, "samples classes"], labels: Int64[Tensor, "samples"]
) -> tuple[Float[Tensor, "samples 2"], Float[Tensor, "samples others"]]:
    """Return log b and log q."""
    samples, classes = logits.shape
    others = logits[labels[:, None] != torch.arange(classes, device=labels.device)].view(samples, classes - 1)
    target = logits.gather(1, labels[:, None])
    binary = torch.cat([target, others.logsumexp(dim=1, keepdim=True)], dim=1)
    return F.log_softmax(binary, dim=1), F.log_softmax(others, dim=1)


class DkdLoss(DistillationLoss):
    """alpha TCKD + beta NCKD; the paper takes alpha 1, beta 8 (2 where teacher and student are close)."""

    needs: ClassVar[frozenset[str]] = frozenset({LOGITS, LABELS})

    def __init__(self, *, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0) -> None:
        super().__init__()
        require_positive(self, temperature=temperature)
        require_weights(self, alpha=alpha, beta=beta)
        self.alpha = alpha
        self.beta = beta
        self.temperature = temperature

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return the mean over the samples."""
        ours, theirs = logit_pair(self, student, teacher)
        classes = class_labels(self, labels, classes=ours.shape[1], samples=len(ours))
        terms = decoupled_terms(ours, theirs, classes, temperature=self.temperature)
        return (self.alpha * terms.target + self.beta * terms.others).mean()

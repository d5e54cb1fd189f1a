"""Contrast of representations within a batch: a sample's own teacher must be nearer than the other samples'.

    u = unit(W_s s), v = unit(W_t t),  l_ij = u_i . v_j / tau
    loss = mean over the samples of  - (log softmax_j(l_ij)_i + log softmax_j(l_ji)_i) / 2

This is the InfoNCE form of contrastive representation distillation with the batch's other samples as
negatives: it needs no memory and no index of the samples, and its strength grows with the batch. The paper's
own estimator is `crd`; numbers of one are no numbers of the other. A batch of one sample gives 0.

Sources: Tian, Krishnan, Isola, "Contrastive representation distillation", ICLR 2020 (embeddings of 128
numbers, tau 0.07); van den Oord, Li, Vinyals, "Representation learning with contrastive predictive
coding", 2018.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from wsi_kd.kd.losses.pairing import require_positive
from wsi_kd.kd.losses.projections import EmbeddedLoss
from wsi_kd.kd.losses.unit import unit
from wsi_kd.kd.outputs import Outputs


def in_batch_contrast(
    student: Float[Tensor, "samples width"], teacher: Float[Tensor, "samples width"], *, temperature: float
) -> Float[Tensor, ""]:
    """Return the cross entropy of finding each sample's counterpart, mean of both directions.

    >>> round(in_batch_contrast(torch.eye(2), torch.eye(2), temperature=1.0).item(), 4)  # log(1 + 1 / e)
    0.3133
    """
    logits = unit(student, dim=1) @ unit(teacher, dim=1).T / temperature
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2.0


class InBatchContrastiveLoss(EmbeddedLoss):
    """InfoNCE between learned embeddings of student and teacher, negatives from the batch."""

    def __init__(self, *, width: int = 128, temperature: float = 0.07) -> None:
        super().__init__(width=width)
        require_positive(self, temperature=temperature)
        self.temperature = temperature

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return the mean over the samples."""
        return in_batch_contrast(*self.embedded(student, teacher), temperature=self.temperature)

"""Distillation of logits: Kullback-Leibler divergence, and one binary cross entropy a class.

    kd     T^2 KL(softmax(t / T) || softmax(s / T))                       mean over the samples (batchmean)
    bkd    (1 / K) sum_k BCE(sigmoid(s_k), q_k),  q = softmax(t) or sigmoid(t)       mean over the samples

The gradient of kd in s is T (softmax(s / T) - softmax(t / T)) / B: T^2 keeps its size against a task's loss
when T changes. For T to infinity it is ((s - mean s) - (t - mean t)) / (K B), the matching of centered
logits. At T = 1, (1 - w) CE(y) + w KL has the gradient of the cross entropy with (1 - w) y + w softmax(t).
The gradient of bkd is (sigmoid(s) - q) / (B K); its value holds the entropy of q, so that it is not 0 at its
optimum.

Sources: Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", 2015; Hao et al.,
"Revisit the power of vanilla knowledge distillation", NeurIPS 2023 (both forms). RepDistiller, mdistiller and
the latter's code compute kd as here. Codes that leave T^2 out make the term vanish as T grows; those that
average over classes too (`reduction="mean"`) are smaller by the factor K.
"""

from collections.abc import Callable
from typing import ClassVar, Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from wsi_kd.core.errors import unknown_name
from wsi_kd.kd.losses.pairing import MIN_CLASSES, logit_pair, require_positive, title
from wsi_kd.kd.outputs import LOGITS, DistillationLoss, Outputs

ACTIVATIONS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "softmax": lambda logits: logits.softmax(dim=1),
    "sigmoid": torch.sigmoid,
}


def tempered_kl(
    student_logits: Float[Tensor, "samples classes"],
    teacher_logits: Float[Tensor, "samples classes"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """Return T^2 KL(teacher || student), mean over the samples.

    >>> import torch
    >>> logits = torch.tensor([[0.0, 3.0]])
    >>> tempered_kl(logits + 7.0, logits, temperature=4.0).item()
    0.0
    """
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    return F.kl_div(student, teacher, log_target=True, reduction="batchmean") * temperature**2


class KdLoss(DistillationLoss):
    """Kullback-Leibler divergence of softened probabilities, times T^2."""

    needs: ClassVar[frozenset[str]] = frozenset({LOGITS})

    def __init__(self, *, temperature: float = 4.0) -> None:
        super().__init__()
        require_positive(self, temperature=temperature)
        self.temperature = temperature

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return the mean over the samples."""
        ours, theirs = logit_pair(self, student, teacher)
        return tempered_kl(ours, theirs, temperature=self.temperature)


class BinaryKdLoss(DistillationLoss):
    """One sigmoid a class against the teacher's probabilities.

    `activation` makes them: softmax for classes of which one holds (the released form), sigmoid for a
    teacher of several labels or of a single logit.
    """

    needs: ClassVar[frozenset[str]] = frozenset({LOGITS})

    def __init__(self, *, activation: str = "softmax") -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise unknown_name(f"activation of {title(self)}", activation, ACTIVATIONS)
        self.activation = activation

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return the mean over samples and classes."""
        min_classes = 1 if self.activation == "sigmoid" else MIN_CLASSES
        ours, theirs = logit_pair(self, student, teacher, min_classes=min_classes)
        return F.binary_cross_entropy_with_logits(ours, ACTIVATIONS[self.activation](theirs))

"""What the labels say: the task's own loss, which stands beside those of distillation.

    ce     - sum_k y_k log softmax(s)_k,  mean over the samples
    bce    - (1 / K) sum_k [y_k log sigmoid(s_k) + (1 - y_k) log(1 - sigmoid(s_k))],  mean over the samples

with y the one-hot label, or a soft one (samples, classes) as mixup makes it, smoothed to (1 - e) y + e / K.
The second is what recipes of strong augmentation train on: Wightman et al., "ResNet strikes back", 2021; Hao
et al., "Revisit the power of vanilla knowledge distillation", NeurIPS 2023 (its hard labels, logit methods).
"""

from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.losses.pairing import label_targets, student_logits, title
from wsi_kd.kd.outputs import LABELS, LOGITS, DistillationLoss, Outputs


class _TaskLoss(DistillationLoss):
    """Labels smoothed by a share; the teacher is not asked."""

    needs: ClassVar[frozenset[str]] = frozenset({LOGITS, LABELS})
    reads_teacher: ClassVar[bool] = False

    def __init__(self, *, smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= smoothing < 1.0:
            raise BadInput(f"{title(self)}: smoothing is {smoothing}; it must be at least 0 and below 1")
        self.smoothing = smoothing


class CrossEntropyLoss(_TaskLoss):
    """Cross entropy with the labels; the teacher is not asked."""

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return the mean over the samples."""
        logits = student_logits(self, student)
        checked = label_targets(self, labels, classes=logits.shape[1], samples=len(logits))
        return F.cross_entropy(logits, checked, label_smoothing=self.smoothing)


class BinaryCrossEntropyLoss(_TaskLoss):
    """One sigmoid a class against the labels; the teacher is not asked."""

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return the mean over samples and classes."""
        logits = student_logits(self, student)
        checked = label_targets(self, labels, classes=logits.shape[1], samples=len(logits))
        soft = checked if checked.is_floating_point() else F.one_hot(checked, logits.shape[1])
        target = soft.to(logits.dtype) * (1.0 - self.smoothing) + self.smoothing / logits.shape[1]
        return F.binary_cross_entropy_with_logits(logits, target)

"""What passes between networks and losses: `Outputs`, and the one signature that every loss has."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, NamedTuple

from torch import Tensor, nn

LOGITS: Final = "logits"
FEATURES: Final = "features"
LABELS: Final = "labels"
TEACHERS: Final = "teachers"
NEEDS: Final = frozenset({LOGITS, FEATURES, LABELS, TEACHERS})
"""What a loss may say it needs; TEACHERS: it takes a sequence of teachers' outputs instead of one."""


class Outputs(NamedTuple):
    """What one network gave for a batch."""

    logits: Tensor
    """(samples, classes), before any softmax."""
    features: Mapping[str, Tensor] = MappingProxyType({})
    """What the tapped layers gave, by the name of the pair; the first axis is the samples."""


class DistillationLoss(nn.Module, ABC):
    """A loss of a student's outputs given a teacher's: one scalar, its weight not inside.

    A loss on features is built for one pair of layers: it reads `features[self.pair]` of both sides. The
    Distiller names the pair after the criterion.
    """

    needs: ClassVar[frozenset[str]] = frozenset({LOGITS})
    """Which of `NEEDS` the loss reads; the Distiller checks it before the first step."""
    pair: str = ""
    """Name of the pair of layers; empty for losses that read no features."""

    reads_teacher: ClassVar[bool] = True
    """False: the loss never looks at the teacher (cross entropy with the labels)."""

    def prepare(self, student: Outputs, teacher: Any) -> None:
        """Build what depends on shapes (projections) from the outputs of one batch; called once.

        What is built goes on the device of the outputs and is drawn from torch's global generator. `teacher`
        is as in `forward`; neither side has a gradient.

        Raises:
            BadInput: the shapes cannot be paired.
        """

    @abstractmethod
    def forward(self, student: Outputs, teacher: Any, labels: Tensor | None) -> Tensor:
        """Return the loss of a batch, a scalar.

        Args:
            student: outputs with gradient.
            teacher: the teacher's `Outputs`, without gradient; a sequence of them if `needs` says "teachers".
            labels: (samples,) int64 classes, or (samples, classes) floating soft labels such as mixup's; None
                where the batch has none, which only losses that do not need "labels" are given.

        Raises:
            BadInput: class counts that differ, shapes that cannot be paired.
        """

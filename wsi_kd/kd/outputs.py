"""What passes between networks and losses: `Outputs`, and the one signature that every loss has."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, NamedTuple

from torch import Tensor, nn

LOGITS: Final = "logits"
FEATURES: Final = "features"
LABELS: Final = "labels"
TEACHERS: Final = "teachers"
UNLABELED: Final = "unlabeled"
NOTHING: Final = ""
TRAIN: Final = "train"
VAL: Final = "val"
NEEDS: Final = frozenset({LOGITS, FEATURES, LABELS, TEACHERS, UNLABELED})
"""What a loss may say it needs; TEACHERS: it takes a sequence of teachers' outputs instead of one.
UNLABELED: it is for batches without labels, and left out of others."""

LEARNS_FROM: Final = frozenset({NOTHING, TRAIN, VAL})
"""Whose batches a loss may learn from before the student does."""


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

    learns_from: ClassVar[str] = NOTHING
    """Whose teacher outputs the loss learns from before the student does: "train", "val", or "" for none."""

    def prepare(self, student: Outputs, teacher: Any) -> None:
        """Build what depends on shapes (projections) from the outputs of one batch; called once.

        What is built goes on the device of the outputs and is drawn from torch's global generator. `teacher`
        is as in `forward`; neither side has a gradient.

        Raises:
            BadInput: the shapes cannot be paired.
        """

    def pretrain(self, seen: Iterable[tuple[Any, Tensor | None]]) -> dict[str, float]:
        """Learn from the teacher before the student does; called once, after `prepare`, in training mode.

        Only a loss that says `learns_from` has one. What it learns belongs in parameters and buffers of the
        loss, so that a resumed training has it again.

        Args:
            seen: one (teacher, labels) a batch, as in `forward`, without gradient and on the device of the
                loss; it can be walked several times, and runs the teacher anew each time.

        Returns:
            Figures to tell, by name, such as {"reconstruction": 0.22}.

        Raises:
            BadInput: the teacher's outputs or the labels are of no use, or there are too few.
        """
        del seen
        return {}

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

"""Layers that losses learn: they carry one network's features to the size of another's.

They are drawn on the CPU from torch's global generator, so that a seed gives the same on every device, and
moved to the features: in float64 where those are, in float32 for all others.
"""

from typing import ClassVar, TypedDict, TypeVar

import torch
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.losses.pairing import Pair, flat_pair, map_pair, require_positive, title
from wsi_kd.kd.outputs import FEATURES, DistillationLoss, Outputs

Module = TypeVar("Module", bound=nn.Module)


class Placement(TypedDict):
    """Where parameters go: `layer.to(**placement)`."""

    device: torch.device
    dtype: torch.dtype


def placed_like(features: Tensor) -> Placement:
    """Return device and type of parameters that meet these features."""
    precise = features.dtype == torch.float64
    return Placement(device=features.device, dtype=torch.float64 if precise else torch.float32)


def require_built(loss: DistillationLoss, module: Module | None) -> Module:
    """Return what `prepare` built.

    Raises:
        BadInput: it was not called.
    """
    if module is None:
        raise BadInput(
            f"{title(loss)}: it learns layers that are not built; call prepare with one batch first"
        )
    return module


def project(loss: DistillationLoss, layers: nn.Module | None, features: Tensor) -> Tensor:
    """Apply what `prepare` built.

    Raises:
        BadInput: `prepare` was not called, or saw another number of channels.
    """
    built = require_built(loss, layers)
    expected = next(_width(layer) for layer in built.modules() if isinstance(layer, nn.Linear | nn.Conv2d))
    if features.shape[1] != expected:
        raise BadInput(
            f"{title(loss)}: features of shape {tuple(features.shape)} came, and the layer was built for "
            f"{expected} channels; train with batches like the one it was prepared with"
        )
    projected: Tensor = built(features)
    return projected


class RegressedLoss(DistillationLoss):
    """A loss between maps, the student's channels carried to the teacher's by a learned 1x1 convolution."""

    needs: ClassVar[frozenset[str]] = frozenset({FEATURES})

    def __init__(self) -> None:
        super().__init__()
        self.regressor: nn.Module | None = None

    def prepare(self, student: Outputs, teacher: Outputs) -> None:
        """Build the 1x1 convolution from the student's channels to the teacher's."""
        ours, theirs = map_pair(self, student, teacher)
        self.regressor = nn.Conv2d(ours.shape[1], theirs.shape[1], 1).to(**placed_like(ours))

    def regressed(self, student: Outputs, teacher: Outputs) -> Pair:
        """Return the student's maps after the convolution, and the teacher's."""
        ours, theirs = map_pair(self, student, teacher)
        return Pair(project(self, self.regressor, ours), theirs)


class EmbeddedLoss(DistillationLoss):
    """A loss between learned linear embeddings of student and teacher."""

    needs: ClassVar[frozenset[str]] = frozenset({FEATURES})

    def __init__(self, *, width: int = 128) -> None:
        super().__init__()
        require_positive(self, width=width)
        self.width = width
        self.student_embedding: nn.Module | None = None
        self.teacher_embedding: nn.Module | None = None

    def prepare(self, student: Outputs, teacher: Outputs) -> None:
        """Build a linear embedding of each side."""
        ours, theirs = flat_pair(self, student, teacher)
        self.student_embedding = nn.Linear(ours.shape[1], self.width).to(**placed_like(ours))
        self.teacher_embedding = nn.Linear(theirs.shape[1], self.width).to(**placed_like(theirs))

    def embedded(self, student: Outputs, teacher: Outputs) -> Pair:
        """Return both sides' embeddings."""
        ours, theirs = flat_pair(self, student, teacher)
        return Pair(
            project(self, self.student_embedding, ours), project(self, self.teacher_embedding, theirs)
        )


def _width(layer: nn.Linear | nn.Conv2d) -> int:
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels

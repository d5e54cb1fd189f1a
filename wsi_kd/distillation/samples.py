"""Samples of a source: inputs that can be taken by number, their labels, and what is known of their parts."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.data import Dataset

from wsi_kd.core.errors import BadInput

Indices: TypeAlias = Int64[np.ndarray, "_"]
"""Numbers of samples."""
Labels: TypeAlias = Int64[np.ndarray, "samples"]
"""Classes 0, 1, ...; -1: unknown."""
Batch: TypeAlias = tuple[Tensor, Tensor] | tuple[Tensor]
UNKNOWN = -1
PARTS = ("train", "val", "test")
MAX_BYTE = 255.0


@runtime_checkable
class Inputs(Protocol):
    """Samples that may lie in memory or be decoded when they are asked for."""

    shape: tuple[int, ...]
    """Of one sample."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def take(self, indices: Sequence[int]) -> Tensor:
        """Return these samples, float32 (len(indices), *shape)."""
        ...

    def fingerprint(self) -> str:
        """Return what tells these samples from others: a sha256 of them or of what they are decoded from."""
        ...


class Samples(NamedTuple):
    """What a source gives."""

    inputs: Inputs
    labels: Labels
    class_names: tuple[str, ...]
    parts: Mapping[str, Indices] | None = None
    """Those that the source itself has, by name of `PARTS`; None: it has none."""
    cases: tuple[str, ...] | None = None
    """Samples of one case are never in two parts; None: each sample is a case."""


class ArrayInputs:
    """Samples in memory: floating numbers, or bytes that are divided by 255 as they are taken."""

    def __init__(self, values: Tensor) -> None:
        self._values = values
        self.shape = tuple(values.shape[1:])

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._values)

    def take(self, indices: Sequence[int]) -> Tensor:
        """Return these samples as float32."""
        taken = self._values[torch.as_tensor(indices, dtype=torch.int64)]
        return taken.float().div_(MAX_BYTE) if taken.dtype == torch.uint8 else taken.float()

    def fingerprint(self) -> str:
        """Return the sha256 of type, shape and values."""
        values = self._values.contiguous()
        digest = hashlib.sha256(f"{values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()


class Scaling(NamedTuple):
    """What is done to inputs: (x - mean) / deviation."""

    mean: Float[Tensor, "..."]
    deviation: Float[Tensor, "..."]
    """Both broadcast over a batch; a deviation of 0 is kept as 1."""

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return scaled inputs."""
        return (inputs - self.mean) / self.deviation


class SamplePart(Dataset[Batch]):
    """A part of the samples as torch's loaders take it; batches are read whole, not sample by sample."""

    def __init__(
        self, inputs: Inputs, indices: Indices, *, labels: Tensor | None, scaling: Scaling | None
    ) -> None:
        if labels is not None and len(labels) != len(indices):
            raise ValueError(f"{len(labels)} labels for {len(indices)} samples")
        self._inputs, self._indices, self._labels, self._scaling = inputs, indices, labels, scaling

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._indices)

    def __getitem__(self, index: int) -> Batch:
        """Return one sample, and its label where there is one."""
        batch = self.__getitems__([index])
        return (batch[0][0], batch[1][0]) if len(batch) > 1 else (batch[0][0],)

    def __getitems__(self, indices: list[int]) -> Batch:
        """Return a batch; torch's loaders ask for it where there is this function."""
        inputs = self._inputs.take(self._indices[indices].tolist())
        inputs = inputs if self._scaling is None else self._scaling(inputs)
        return (inputs,) if self._labels is None else (inputs, self._labels[indices])


def numbered_classes(labels: Labels, *, where: str) -> tuple[str, ...]:
    """Return the names "0", "1", ... of the classes up to the largest label.

    Raises:
        BadInput: a label so large that there is not a sample for each class below it.
    """
    largest = int(labels.max(initial=UNKNOWN))
    if largest >= len(labels) > 0:
        raise BadInput(
            f"{where}: a label is {largest}, and there are {len(labels)} samples; expected classes 0, 1, ... "
            f"with samples of each, {UNKNOWN} where unknown"
        )
    return tuple(map(str, range(largest + 1)))


def whole(batch: Any) -> Any:
    """Collate what is a batch already."""
    return batch


def fit_scaling(inputs: Inputs, indices: Indices, *, batch_size: int) -> Scaling:
    """Return mean and standard deviation over samples: of each feature, or of images of each channel.

    Samples of one axis have their features there; of three, the first is the channels.
    """
    images = len(inputs.shape) > 1
    axes = (0, *range(2, len(inputs.shape) + 1)) if images else (0,)
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for start in range(0, len(indices), batch_size):
        batch = inputs.take(indices[start : start + batch_size].tolist()).double()
        count += batch.numel() // batch.shape[1] if images else len(batch)
        total, squares = total + batch.sum(axes), squares + batch.square().sum(axes)
    mean = total / count
    deviation = (squares / count - mean.square()).clamp(min=0.0).sqrt()
    deviation = torch.where(deviation > 1e-6 * mean.abs().clamp(min=1e-6), deviation, 1.0)
    shape = (-1, *(1,) * (len(inputs.shape) - 1)) if images else (-1,)
    return Scaling(mean.float().reshape(shape), deviation.float().reshape(shape))

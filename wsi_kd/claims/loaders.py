"""Loaders of small parts that cost next to nothing: whole batches of rows, and epochs of any length."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, TensorDataset

from wsi_kd.claims.digits import Samples
from wsi_kd.core.errors import BadInput


class Draws(Sampler[Tensor]):
    """Rows of whole batches, drawn by torch's global generator: anew when fewer than a batch are left.

    Raises:
        BadInput: a batch is larger than the data.
    """

    def __init__(self, samples: int, *, steps: int, batch: int) -> None:
        if not 1 <= batch <= samples:
            raise BadInput(f"batches of {batch} from {samples} samples: expected 1 to {samples}")
        self._samples, self._steps, self._batch = samples, steps, batch

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[Tensor]:
        left = torch.empty(0, dtype=torch.int64)
        for _ in range(self._steps):
            if len(left) < self._batch:
                left = torch.randperm(self._samples)
            yield left[: self._batch]
            left = left[self._batch :]


def drawn_loader(samples: Samples, *, steps: int, batch: int) -> DataLoader[Any]:
    """Return a loader whose epoch is so many batches; what is left of the data at its end is skipped."""
    draws = Draws(len(samples.labels), steps=steps, batch=batch)
    return DataLoader(TensorDataset(*samples), sampler=draws, batch_size=None)


def whole_loader(samples: Samples) -> DataLoader[Any]:
    """Return a loader of one batch that holds all."""
    return DataLoader(TensorDataset(*samples), sampler=[slice(None)], batch_size=None)

"""The handwritten digits that scikit-learn ships: 1,797 images of 8 x 8 pixels, no network needed."""

from collections.abc import Sequence
from functools import cache
from typing import Final, NamedTuple

import torch
from jaxtyping import Float, Int64
from sklearn.datasets import load_digits
from torch import Tensor

from wsi_kd.core.errors import BadInput

DIGITS: Final = 1797
CLASSES: Final = 10


class Samples(NamedTuple):
    """One part of a dataset, or all of it."""

    inputs: Float[Tensor, "samples features"]
    """Of digits 64 pixels by rows, in [0, 1]; `inputs.view(-1, 1, 8, 8)` are the images."""
    labels: Int64[Tensor, "samples"]


def digits(seed: int, sizes: Sequence[int]) -> list[Samples]:
    """Shuffle the digits by the seed and cut them into parts of these sizes; no digit is in two parts.

    >>> train, test = digits(0, [1000, 797])
    >>> train.inputs.shape, int(test.labels.max())
    (torch.Size([1000, 64]), 9)

    Raises:
        BadInput: more digits are asked for than there are, or a part of none.
    """
    if min(sizes, default=0) < 1 or sum(sizes) > DIGITS:
        raise BadInput(
            f"parts of {list(sizes)} digits: expected sizes above 0, {DIGITS} in all; ask for fewer"
        )
    every = _all_digits()
    order = torch.randperm(DIGITS, generator=torch.Generator().manual_seed(seed))[: sum(sizes)]
    return [Samples(every.inputs[rows], every.labels[rows]) for rows in torch.split(order, list(sizes))]


@cache
def _all_digits() -> Samples:
    pixels, labels = load_digits(return_X_y=True)
    return Samples(torch.from_numpy(pixels).float() / 16, torch.from_numpy(labels).long())

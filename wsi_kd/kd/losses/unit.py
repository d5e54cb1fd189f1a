"""Vectors scaled to length 1, with a gradient that stays finite where the length is 0."""

import torch
from torch import Tensor


def unit(vectors: Tensor, *, dim: int) -> Tensor:
    """Divide by the Euclidean length along `dim`; a vector of length 0 stays 0.

    `torch.nn.functional.normalize` divides by max(length, 1e-12): the same values, but a gradient of 1e12
    times the incoming one at 0, where a dead unit or two equal samples lie. Here it is the incoming one.

    >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), dim=1)
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    length = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    return vectors / torch.where(length > 0, length, torch.ones_like(length))

"""Correlation congruence, and what released codes call correlation.

    cc            K_ij = exp(-2 g) sum_(p <= P) (2 g)^p / p! (x_i . x_j)^p,  x at length 1
                  loss = (1 / B^2) ||K_s - K_t||^2
    correlation   d_i = |W_s s_i + b_s - W_t t_i - b_t|,  loss = mean over i < B of sum_k d_ik d_(i+1)k

K is the Taylor series of the Gaussian kernel exp(-g ||x_i - x_j||^2) of unit vectors, to the order P: a
matrix of relations between samples, invariant to rotating the features. The second multiplies the errors of
neighbors in the batch: its value depends on the order of the samples, it is 0 where every other sample fits,
and since both embeddings learn, two constant ones are a perfect answer. Take it to compare with those codes.

Sources: Peng et al., "Correlation congruence for knowledge distillation", ICCV 2019 (g 0.4, P 2);
RepDistiller's CC and vanillaKD's Correlation (the latter times 0.02), which cite the same paper.
"""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from wsi_kd.kd.losses.pairing import flat_pair, require_positive
from wsi_kd.kd.losses.projections import EmbeddedLoss
from wsi_kd.kd.losses.unit import unit
from wsi_kd.kd.outputs import FEATURES, DistillationLoss, Outputs


def gaussian_series(
    vectors: Float[Tensor, "samples width"], *, gamma: float, order: int
) -> Float[Tensor, "samples samples"]:
    """Return the Taylor series of exp(-gamma ||x_i - x_j||^2) of the vectors at length 1.

    >>> near = gaussian_series(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), gamma=0.4, order=20)
    >>> [round(value, 4) for value in near[0].tolist()]  # exp(0), exp(-0.4 * 2)
    [1.0, 0.4493]
    """
    directions = unit(vectors, dim=1)
    cosines = directions @ directions.T
    terms = [(2.0 * gamma) ** power / math.factorial(power) * cosines**power for power in range(order + 1)]
    return math.exp(-2.0 * gamma) * torch.stack(terms).sum(dim=0)


def neighbor_errors(
    student: Float[Tensor, "samples width"], teacher: Float[Tensor, "samples width"]
) -> Float[Tensor, ""]:
    """Return the mean product of the absolute errors of each sample and the next; 0 for one sample.

    >>> neighbor_errors(torch.tensor([[1.0], [2.0], [-3.0]]), torch.zeros(3, 1)).item()  # (1 * 2 + 2 * 3) / 2
    4.0
    """
    errors = (student - teacher).abs()
    return (errors[:-1] * errors[1:]).sum() / max(len(errors) - 1, 1)


class CorrelationCongruenceLoss(DistillationLoss):
    """Mean squared difference of the Gaussian kernel between samples."""

    needs: ClassVar[frozenset[str]] = frozenset({FEATURES})

    def __init__(self, *, gamma: float = 0.4, order: int = 2) -> None:
        super().__init__()
        require_positive(self, gamma=gamma, order=order)
        self.gamma = gamma
        self.order = order

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return the mean over the pairs of samples."""
        ours, theirs = (
            gaussian_series(vectors, gamma=self.gamma, order=self.order)
            for vectors in flat_pair(self, student, teacher)
        )
        return F.mse_loss(ours, theirs)


class NeighborErrorLoss(EmbeddedLoss):
    """The released codes' "correlation": products of neighbors' errors between learned embeddings."""

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return the mean over neighbors, sum over the embedding."""
        return neighbor_errors(*self.embedded(student, teacher))

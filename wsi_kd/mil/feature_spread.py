"""How tiles of the training part spread around their mean: the yardstick of a tile that is unlike them.

Features of one encoder move together, so a tile may lie far outside the training's cloud while each of its
features alone is usual: a stain that is a little weaker moves a hundred features by half a deviation each,
along a direction that training tiles hardly use. A covariance knows these directions.
"""

from typing import Final

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

AXES: Final = 64
"""Directions that have a variance of their own; all others share one. 256 KiB for 1,024 features."""
SHRINKAGE: Final = 0.01
"""Share of the mean variance in every variance: directions that the training never used stay finite."""


class FeatureSpread(nn.Module):
    """Mahalanobis distance of z-scores by a shrunk covariance of few axes; their plain size until `fit`.

    With C the second moments of the training tiles' z-scores and m the mean of its diagonal, the covariance
    is (1 - s) C + s m I, s = `SHRINKAGE` (Ledoit and Wolf, J. Multivariate Analysis 88, 2004, with a fixed
    intensity). Its `AXES` largest eigenvalues v_k stand, all smaller ones are replaced by their mean, v_0
    (Moghaddam and Pentland, IEEE PAMI 19, 1997, eq. 18). With p_k the component of z along eigenvector k

        distance = sqrt((sum_k p_k^2 / v_k + (|z|^2 - sum_k p_k^2) / v_0) / features)

    so that tiles of the training have a root mean square of about 1, less where features repeat each other.
    """

    axes: Tensor
    variances: Tensor
    rest: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        count = min(AXES, width)
        self.register_buffer("axes", torch.zeros(count, width))
        self.register_buffer("variances", torch.ones(count))
        self.register_buffer("rest", torch.ones(()))

    def fit(self, second_moments: Float64[Tensor, "width width"]) -> None:
        """Take the mean of z z' over the training tiles."""
        mean_variance = float(second_moments.diagonal().mean())
        if mean_variance <= 0.0:  # every training tile is the same: their distance stays the size of z
            return
        values, vectors = torch.linalg.eigh(second_moments)
        shrunk = (1.0 - SHRINKAGE) * values.clamp(min=0.0) + SHRINKAGE * mean_variance
        count = len(self.variances)
        smaller = shrunk[:-count]
        self.axes.copy_(vectors[:, -count:].T)
        self.variances.copy_(shrunk[-count:])
        self.rest.copy_(smaller.mean() if len(smaller) else shrunk[0])

    def forward(self, z_scores: Float[Tensor, "instances width"]) -> Float[Tensor, "instances"]:
        """Return the distance of each instance."""
        squares = (z_scores @ self.axes.T).square()
        off_axes = (z_scores.square().sum(dim=1) - squares.sum(dim=1)).clamp(min=0.0)
        total = (squares / self.variances).sum(dim=1) + off_axes / self.rest
        return (total / z_scores.shape[1]).sqrt()

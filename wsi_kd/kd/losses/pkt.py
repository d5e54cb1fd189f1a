"""Probabilistic knowledge transfer: each sample's distribution over its neighbors must be the teacher's.

    c_ij = (cos(x_i, x_j) + 1) / 2,  p_ij = c_ij / sum_j c_ij,  loss = mean over i, j of p_t log(p_t / p_s)

Rows keep the sample itself. Invariant to rotating the features and to each sample's scale.

Source: Passalis, Tefas, "Learning deep representations with probabilistic knowledge transfer", ECCV 2018,
with the cosine kernel; the authors' code and RepDistiller compute it as here, with 1e-7
beside norms and logarithms; they repair the norm's NaN at 0 in the value, but not in its gradient.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from wsi_kd.kd.losses.pairing import flat_pair
from wsi_kd.kd.outputs import FEATURES, DistillationLoss, Outputs

SMALL = 1e-7


def neighbor_probabilities(vectors: Float[Tensor, "samples width"]) -> Float[Tensor, "samples samples"]:
    """Return cosines moved to [0, 1], each row of sum 1."""
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    directions = vectors / (lengths + SMALL)
    likeness = (directions @ directions.T + 1.0) / 2.0
    return likeness / likeness.sum(dim=1, keepdim=True)


class PktLoss(DistillationLoss):
    """Divergence of the distributions over the batch's samples."""

    needs: ClassVar[frozenset[str]] = frozenset({FEATURES})

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return the mean over the pairs of samples."""
        ours, theirs = (neighbor_probabilities(vectors) for vectors in flat_pair(self, student, teacher))
        return (theirs * ((theirs + SMALL) / (ours + SMALL)).log()).mean()

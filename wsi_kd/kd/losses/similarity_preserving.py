"""Similarity preserving: samples that are alike to the teacher must be alike to the student.

    G(f) = rows of F F^T at length 1,  F = (samples, all else)        loss = (1 / B^2) ||G_t - G_s||^2

The rows' length makes it invariant to the scale of all features; widths and sizes of the layers may differ.

Source: Tung, Mori, "Similarity-preserving knowledge distillation", ICCV 2019; RepDistiller computes it
as here.
"""

from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from wsi_kd.kd.losses.pairing import flat_pair
from wsi_kd.kd.losses.unit import unit
from wsi_kd.kd.outputs import FEATURES, DistillationLoss, Outputs


def similarities(vectors: Float[Tensor, "samples width"]) -> Float[Tensor, "samples samples"]:
    """Return the products of all pairs, each row of length 1."""
    return unit(vectors @ vectors.T, dim=1)


class SimilarityPreservingLoss(DistillationLoss):
    """Mean squared difference of the samples' similarities."""

    needs: ClassVar[frozenset[str]] = frozenset({FEATURES})

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return the mean over the pairs of samples."""
        ours, theirs = flat_pair(self, student, teacher)
        return F.mse_loss(similarities(ours), similarities(theirs))

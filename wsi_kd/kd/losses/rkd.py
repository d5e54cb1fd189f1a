"""Relational distillation: distances between samples and angles at them, instead of the features themselves.

    D_ij  = ||x_i - x_j|| / mean of those above 0                                   (distance)
    A_jik = cos of the angle at x_j between x_i and x_k                             (angle)
    loss  = distance_weight SmoothL1(D_s, D_t) + angle_weight SmoothL1(A_s, A_t)

means over all B^2 and B^3 entries, the ones between a sample and itself (always 0) included. Both are
invariant to rotating, moving and scaling all features; the student's mean distance has gradient. The angles
take B^2 (width + B) numbers of memory. A batch of one sample gives 0.

Source: Park et al., "Relational knowledge distillation", CVPR 2019; RepDistiller and vanillaKD compute it as
here with these weights, 25 and 50, but take distances from the products of
features, clamped to 1e-6 from below, where equal samples get a wrong distance and gradient.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.losses.pairing import flat_pair, title
from wsi_kd.kd.losses.unit import unit
from wsi_kd.kd.outputs import FEATURES, DistillationLoss, Outputs


def relative_distances(vectors: Float[Tensor, "samples width"]) -> Float[Tensor, "samples samples"]:
    """Return Euclidean distances divided by the mean of those above 0; all 0 where every sample is the same.

    >>> relative_distances(torch.tensor([[0.0], [1.0], [3.0]]))[0].tolist()  # of 0, 1, 3, of mean 2
    [0.0, 0.5, 1.5]
    """
    distances = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    apart = (distances > 0).sum().clamp(min=1)
    mean = distances.sum() / apart
    return distances / torch.where(mean > 0, mean, torch.ones_like(mean))


def angle_cosines(vectors: Float[Tensor, "samples width"]) -> Float[Tensor, "samples samples samples"]:
    """Return at [j, i, k] the cosine of the angle at sample j between i and k; 0 where i or k is j."""
    directions = unit(vectors[None, :, :] - vectors[:, None, :], dim=2)
    return directions @ directions.transpose(1, 2)


class RkdLoss(DistillationLoss):
    """Distances and angles between the samples of a batch; a weight of 0 leaves one out."""

    needs: ClassVar[frozenset[str]] = frozenset({FEATURES})

    def __init__(self, *, distance_weight: float = 25.0, angle_weight: float = 50.0) -> None:
        super().__init__()
        if min(distance_weight, angle_weight) < 0 or distance_weight + angle_weight == 0:
            raise BadInput(
                f"{title(self)}: distance_weight is {distance_weight} and angle_weight {angle_weight}; "
                "both must be at least 0, one above it"
            )
        self.distance_weight = distance_weight
        self.angle_weight = angle_weight

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return the weighted sum of both means."""
        ours, theirs = flat_pair(self, student, teacher)
        loss = ours.new_zeros(())
        if self.distance_weight:
            gap = F.smooth_l1_loss(relative_distances(ours), relative_distances(theirs))
            loss = loss + self.distance_weight * gap
        if self.angle_weight:
            gap = F.smooth_l1_loss(angle_cosines(ours), angle_cosines(theirs))
            loss = loss + self.angle_weight * gap
        return loss

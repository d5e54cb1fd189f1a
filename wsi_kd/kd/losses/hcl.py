"""Hierarchical context: features compared at full size and averaged to 4x4, 2x2 and one position.

    loss = (mse + sum_j 2^-j mse at the j-th size) / (1 + sum_j 2^-j)

over the sizes 4, 2, 1 that are smaller than the map's smaller side, j = 1, 2, ... The student's channels
pass a learned 1x1 convolution; the larger map is average-pooled first.

Source: Chen et al., "Distilling knowledge via knowledge review", CVPR 2021. This is the paper's
loss between two maps (mdistiller's `hcl_loss`), not its fusion of several student layers ("review", "ABF").
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from wsi_kd.kd.losses.projections import RegressedLoss
from wsi_kd.kd.outputs import Outputs

SIZES = (4, 2, 1)


def hierarchical_context(
    student: Float[Tensor, "samples channels height width"],
    teacher: Float[Tensor, "samples channels height width"],
) -> Float[Tensor, ""]:
    """Return the weighted mean of squared differences at all sizes.

    >>> import torch
    >>> student = torch.tensor([[[[1.0, -1.0], [1.0, -1.0]]]])  # 1 at full size; its mean is 0
    >>> round(hierarchical_context(student, torch.zeros(1, 1, 2, 2)).item(), 4)  # 1 / 1.5
    0.6667
    """
    loss, weights, weight = F.mse_loss(student, teacher), 1.0, 1.0
    for size in SIZES:
        if size < min(student.shape[2:]):
            weight /= 2.0
            weights += weight
            ours, theirs = F.adaptive_avg_pool2d(student, size), F.adaptive_avg_pool2d(teacher, size)
            loss = loss + weight * F.mse_loss(ours, theirs)
    return loss / weights


class HierarchicalContextLoss(RegressedLoss):
    """Squared differences at several sizes, after a learned linear map of the student's channels."""

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return the mean over samples, channels and positions."""
        return hierarchical_context(*self.regressed(student, teacher))

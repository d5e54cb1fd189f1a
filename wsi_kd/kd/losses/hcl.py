"""Hierarchical context: features compared at full size and averaged to 4x4, 2x2 and one position.

    loss = (mse + sum_j 2^-j mse at the j-th size) / (1 + sum_j 2^-j)

over the sizes 4, 2, 1 that are smaller than the map's smaller side, j = 1, 2, ... The student's channels
pass a learned 1x1 convolution; the larger map is average-pooled first.

Source: Chen et al., "Distilling knowledge via knowledge review", CVPR 2021. This is the paper's
loss between two maps (mdistiller's `hcl_loss`), not its fusion of several student layers ("review", "ABF").
"""

from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.kd.losses.pairing import map_pair
from wsi_kd.kd.losses.projections import placed_like, project
from wsi_kd.kd.outputs import FEATURES, DistillationLoss, Outputs

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


class HierarchicalContextLoss(DistillationLoss):
    """Squared differences at several sizes, after a learned linear map of the student's channels."""

    needs: ClassVar[frozenset[str]] = frozenset({FEATURES})

    def __init__(self) -> None:
        super().__init__()
        self.regressor: nn.Module | None = None

    def prepare(self, student: Outputs, teacher: Outputs) -> None:
        """Build the 1x1 convolution from the student's channels to the teacher's."""
        ours, theirs = map_pair(self, student, teacher)
        self.regressor = nn.Conv2d(ours.shape[1], theirs.shape[1], 1).to(**placed_like(ours))

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return the mean over samples, channels and positions."""
        ours, theirs = map_pair(self, student, teacher)
        return hierarchical_context(project(self, self.regressor, ours), theirs)

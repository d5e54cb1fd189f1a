"""FitNets' hint: a learned 1x1 convolution of the student's features must equal the teacher's.

    loss = mean over samples, channels and positions of (R s - t)^2

Source: Romero et al., "FitNets: hints for thin deep nets", ICLR 2015: there a first stage on its
own, by a convolution that also brings the sizes together; here, as in RepDistiller and mdistiller, a term
beside the others, and the larger map is average-pooled. Those two follow the convolution by batch norm and
ReLU; R is plain here, so that it reaches negative features too.
"""

from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.kd.losses.pairing import map_pair
from wsi_kd.kd.losses.projections import placed_like, project
from wsi_kd.kd.outputs import FEATURES, DistillationLoss, Outputs


class HintLoss(DistillationLoss):
    """Mean squared difference of features, after a learned linear map of the student's channels."""

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
        return F.mse_loss(project(self, self.regressor, ours), theirs)

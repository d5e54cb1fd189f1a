"""FitNets' hint: a learned 1x1 convolution of the student's features must equal the teacher's.

    loss = mean over samples, channels and positions of (R s - t)^2

Source: Romero et al., "FitNets: hints for thin deep nets", ICLR 2015: there a first stage on its
own, by a convolution that also brings the sizes together; here, as in RepDistiller and mdistiller, a term
beside the others, and the larger map is average-pooled. Those two follow the convolution by batch norm and
ReLU; R is plain here, so that it reaches negative features too.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from wsi_kd.kd.losses.projections import RegressedLoss
from wsi_kd.kd.outputs import Outputs


class HintLoss(RegressedLoss):
    """Mean squared difference of features, after a learned linear map of the student's channels."""

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return the mean over samples, channels and positions."""
        return F.mse_loss(*self.regressed(student, teacher))

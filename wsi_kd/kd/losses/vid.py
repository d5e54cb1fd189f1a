"""Variational information distillation: the student's features must tell the teacher's, as a Gaussian.

    loss = mean over samples, channels and positions of ((mu(s) - t)^2 / v_c + log v_c) / 2
    v_c  = softplus(a_c) + 1e-5,  mu = three 1x1 convolutions with ReLU between, no bias

An upper bound of the negative mutual information, up to a constant: channels that the student cannot predict
get a large variance v_c and stop pulling. The value may be below 0.

Source: Ahn et al., "Variational information distillation for knowledge transfer", CVPR 2019; v
starts at 5. RepDistiller computes it as here and takes the teacher's width within mu; the larger map is
average-pooled, before mu where it is the student's.
"""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.losses.pairing import map_pair, title
from wsi_kd.kd.losses.projections import placed_like, project, require_built
from wsi_kd.kd.outputs import FEATURES, DistillationLoss, Outputs

SMALLEST_VARIANCE = 1e-5


class GaussianPredictor(nn.Module):
    """Mean of the teacher's features given the student's, and one variance a channel."""

    def __init__(self, student_channels: int, teacher_channels: int, *, first_variance: float) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Conv2d(student_channels, teacher_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False),
        )
        first = math.log(math.expm1(first_variance - SMALLEST_VARIANCE))
        self.raw_variance = nn.Parameter(torch.full((teacher_channels,), first))

    def variance(self) -> Float[Tensor, "channels"]:
        """Return the variance of each channel."""
        return F.softplus(self.raw_variance) + SMALLEST_VARIANCE


class VidLoss(DistillationLoss):
    """Negative log likelihood of the teacher's features, its constant left out."""

    needs: ClassVar[frozenset[str]] = frozenset({FEATURES})

    def __init__(self, *, first_variance: float = 5.0) -> None:
        super().__init__()
        if not first_variance > SMALLEST_VARIANCE:
            raise BadInput(
                f"{title(self)}: first_variance is {first_variance}; it must be above {SMALLEST_VARIANCE}"
            )
        self.first_variance = first_variance
        self.predictor: GaussianPredictor | None = None

    def prepare(self, student: Outputs, teacher: Outputs) -> None:
        """Build the predictor from the student's channels to the teacher's."""
        ours, theirs = map_pair(self, student, teacher)
        predictor = GaussianPredictor(ours.shape[1], theirs.shape[1], first_variance=self.first_variance)
        self.predictor = predictor.to(**placed_like(ours))

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return the mean over samples, channels and positions."""
        ours, theirs = map_pair(self, student, teacher)
        predictor = require_built(self, self.predictor)
        mean = project(self, predictor.mean, ours)
        variance = predictor.variance()[None, :, None, None]
        return ((mean - theirs).square() / variance + variance.log()).mean() / 2.0

"""Neuron selectivity transfer: the set of a layer's channels, each a pattern over positions, must be alike.

    a_c = unit(vec(f_c)),  k(a, b) = (a . b)^2
    loss = mean k(t, t) + mean k(s, s) - 2 mean k(s, t),   means over all pairs of channels and the samples

The squared maximum mean discrepancy of two sets: 0 for any order of the channels, and their numbers may
differ. The larger map is average-pooled.

Source: Huang, Wang, "Like what you like: knowledge distill via neuron selectivity transfer", 2017, with
the polynomial kernel of degree 2; RepDistiller computes it as here.
"""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from wsi_kd.kd.losses.pairing import map_pair
from wsi_kd.kd.losses.unit import unit
from wsi_kd.kd.outputs import FEATURES, DistillationLoss, Outputs


def mean_kernel(
    left: Float[Tensor, "samples left positions"], right: Float[Tensor, "samples right positions"]
) -> Float[Tensor, ""]:
    """Return the mean of (a . b)^2 over all pairs of channels and the samples."""
    return (left @ right.transpose(1, 2)).square().mean()


class NstLoss(DistillationLoss):
    """Maximum mean discrepancy between the channels' patterns."""

    needs: ClassVar[frozenset[str]] = frozenset({FEATURES})

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return the mean over the samples."""
        ours, theirs = (unit(maps.flatten(2), dim=2) for maps in map_pair(self, student, teacher))
        return mean_kernel(theirs, theirs) + mean_kernel(ours, ours) - 2.0 * mean_kernel(ours, theirs)

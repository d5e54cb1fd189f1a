"""Attention transfer: where a network is active must be where its teacher is.

    Q(f) = unit(vec(mean over channels of f^2))        loss = mean over samples and positions of (Q_s - Q_t)^2

Each map is scaled to length 1, so that neither channels nor scale matter. The larger map is average-pooled.

Source: Zagoruyko, Komodakis, "Paying more attention to attention", ICLR 2017, with p = 2; there the
length of Q_s - Q_t is taken, not its mean square. The authors' released code, RepDistiller and mdistiller
take the mean square, as here.
"""

from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from wsi_kd.kd.losses.pairing import map_pair
from wsi_kd.kd.losses.unit import unit
from wsi_kd.kd.outputs import FEATURES, DistillationLoss, Outputs


def attention_map(maps: Float[Tensor, "samples channels height width"]) -> Float[Tensor, "samples positions"]:
    """Return the mean square over the channels, of length 1.

    >>> import torch
    >>> attention_map(torch.tensor([[[[3.0, 0.0]], [[0.0, -3.0]]]])).tolist()
    [[0.707..., 0.707...]]
    """
    return unit(maps.square().mean(dim=1).flatten(1), dim=1)


class AttentionTransferLoss(DistillationLoss):
    """Mean squared difference of maps of activity."""

    needs: ClassVar[frozenset[str]] = frozenset({FEATURES})

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return the mean over samples and positions."""
        ours, theirs = map_pair(self, student, teacher)
        return F.mse_loss(attention_map(ours), attention_map(theirs))

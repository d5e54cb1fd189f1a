"""Features to comparable scales: the first layer, fitted on the training part, saved with the weights."""

from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

CACHED_VALUES: Final = 1 << 18
"""Of one block of rows that is scaled and rounded on a CPU: 1 MiB in float32."""


class Affine(NamedTuple):
    """W x + b."""

    weight: Float[Tensor, "outputs inputs"]
    bias: Float[Tensor, "outputs"]


class FeatureScaling(nn.Module):
    """(x - mean) / deviation per feature; the identity until `fit`.

    Encoders and descriptors differ by orders of magnitude in scale; without this the learning rate that
    suits one encoder fails on the next.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def fit(self, *, mean: Float[Tensor, "width"], deviation: Float[Tensor, "width"]) -> None:
        """Take the training part's moments; a feature that hardly varies is centered and left unscaled."""
        constant = deviation <= 1e-6 * (1.0 + mean.abs())
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(constant, torch.ones_like(deviation), deviation))

    def forward(self, features: Float[Tensor, "instances features"]) -> Float[Tensor, "instances features"]:
        """Scale the features, in the precision of the fitted moments."""
        return (features - self.mean) / self.deviation


def scaled_linear(
    features: Float[Tensor, "instances features"], scaling: FeatureScaling, layer: nn.Linear | Affine
) -> Float[Tensor, "instances hidden"]:
    """Return W (x - mean) / deviation + b without a scaled copy of all features in float32.

    In full precision the moments go into the weights, W' = W / deviation and b' = b - W' mean: what that
    loses is what rounding the features themselves loses. Where autocast rounds to half precision it would
    lose far more, so there features are scaled first and rounded after, block by block on a CPU. Gradients
    reach the layer, not the features.
    """
    device = features.device.type
    if torch.is_autocast_enabled(device):
        rounded = _scaled_and_rounded(features, scaling, dtype=torch.get_autocast_dtype(device))
        return F.linear(rounded, layer.weight, layer.bias)
    weight = layer.weight / scaling.deviation
    return F.linear(features.to(weight.dtype), weight, layer.bias - weight @ scaling.mean)


@torch.no_grad()
def _scaled_and_rounded(
    features: Float[Tensor, "instances features"], scaling: FeatureScaling, *, dtype: torch.dtype
) -> Float[Tensor, "instances features"]:
    if features.device.type != "cpu":
        scaled: Tensor = scaling(features)
        return scaled.to(dtype)
    rounded = torch.empty(features.shape, dtype=dtype)
    rows = max(1, CACHED_VALUES // features.shape[1])
    for start in range(0, len(features), rows):
        rounded[start : start + rows] = scaling(features[start : start + rows])
    return rounded

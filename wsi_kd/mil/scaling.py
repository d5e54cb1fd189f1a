"""Features to comparable scales: the first layer, fitted on the training part, saved with the weights."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FeatureScaling(nn.Module):
    """(x - mean) / deviation per feature; the identity until `fit`.

    Encoders and descriptors differ by orders of magnitude in scale; without this the learning rate that
    suits one encoder fails on the next.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("deviation", torch.ones(feature_dim))

    def fit(self, *, mean: Float[Tensor, "features"], deviation: Float[Tensor, "features"]) -> None:
        """Take the training part's moments; a feature that hardly varies is centered and left unscaled."""
        constant = deviation <= 1e-6 * (1.0 + mean.abs())
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(constant, torch.ones_like(deviation), deviation))

    def forward(self, features: Float[Tensor, "instances features"]) -> Float[Tensor, "instances features"]:
        """Scale the features, in the precision of the fitted moments."""
        return (features - self.mean) / self.deviation

"""DIST: match relations of probabilities by correlation instead of probabilities by divergence.

With p = softmax(z / T), (B, K), and r Pearson's correlation:

    inter = 1 - mean over samples of r(p_s[i, :], p_t[i, :])
    intra = 1 - mean over classes of r(p_s[:, k], p_t[:, k])
    loss  = T^2 (beta inter + gamma intra)

A student may be more or less sure than its teacher at no cost: both terms are invariant to a linear map of a
row or column. A constant row or column, and a batch of one sample in intra, has the correlation 0.

Source: Huang et al., "Knowledge distillation from a stronger teacher", NeurIPS 2022; their
released code (and vanillaKD's) adds 1e-8 to the product of the norms, as here.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from wsi_kd.kd.losses.pairing import logit_pair, require_positive, require_weights
from wsi_kd.kd.outputs import LOGITS, DistillationLoss, Outputs

SMALLEST_PRODUCT = 1e-8


def pearson(
    left: Float[Tensor, "rows columns"], right: Float[Tensor, "rows columns"], *, dim: int
) -> Float[Tensor, "series"]:
    """Return the correlation along `dim`; 0 where a side is constant.

    >>> rising = torch.tensor([[1.0, 2.0, 3.0]])
    >>> round(pearson(rising, 5.0 - rising, dim=1).item(), 4)
    -1.0
    """
    left = left - left.mean(dim=dim, keepdim=True)
    right = right - right.mean(dim=dim, keepdim=True)
    lengths: Tensor = torch.linalg.vector_norm(left, dim=dim) * torch.linalg.vector_norm(right, dim=dim)
    return (left * right).sum(dim=dim) / (lengths + SMALLEST_PRODUCT)


class DistLoss(DistillationLoss):
    """One minus the correlation, between classes and within them."""

    needs: ClassVar[frozenset[str]] = frozenset({LOGITS})

    def __init__(self, *, beta: float = 1.0, gamma: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__()
        require_positive(self, temperature=temperature)
        require_weights(self, beta=beta, gamma=gamma)
        self.beta = beta
        self.gamma = gamma
        self.temperature = temperature

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return T^2 (beta inter + gamma intra)."""
        ours, theirs = logit_pair(self, student, teacher)
        left, right = ((logits / self.temperature).softmax(dim=1) for logits in (ours, theirs))
        inter = 1.0 - pearson(left, right, dim=1).mean()
        intra = 1.0 - pearson(left, right, dim=0).mean()
        return self.temperature**2 * (self.beta * inter + self.gamma * intra)

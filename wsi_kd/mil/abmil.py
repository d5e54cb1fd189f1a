"""Attention-based MIL (Ilse, Tomczak, Welling, ICML 2018): bag logits as an attention-weighted mean.

With a linear bag classifier, W (sum_i a_i h_i) + b = sum_i a_i (W h_i + b) because the a_i sum to 1. So
each instance is classified first (its evidence) and only `classes` numbers an instance are pooled instead
of the hidden vector.
"""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from wsi_kd.mil.outputs import BagOutput
from wsi_kd.mil.pooling import at_least_float32, attention_pool


class Abmil(nn.Module):
    """Plain attention: a_i = w^T tanh(V h_i) + c (equation 8)."""

    contextual: ClassVar[bool] = False

    def __init__(self, *, hidden_dim: int, attention_dim: int, classes: int) -> None:
        super().__init__()
        self.attention_tanh = nn.Linear(hidden_dim, attention_dim)
        self.attention_head = nn.Linear(attention_dim, 1)
        self.bag_head = nn.Linear(hidden_dim, classes)

    def forward(
        self,
        instances: Float[Tensor, "instances hidden"],
        offsets: Int64[Tensor, "bags_and_1"],
        keep: Bool[Tensor, "instances"] | None = None,
    ) -> BagOutput:
        """Score packed bags; instances whose `keep` is False get no attention."""
        attention_logits = at_least_float32(self.attention_head(self.attend(instances)).squeeze(-1))
        evidence = at_least_float32(self.bag_head(instances))
        bag_logits = attention_pool(attention_logits, evidence, offsets, keep=keep)
        return BagOutput(bag_logits, attention_logits, evidence)

    def attend(self, instances: Float[Tensor, "instances hidden"]) -> Float[Tensor, "instances attention"]:
        """Return the vectors that the attention head weighs."""
        return torch.tanh(self.attention_tanh(instances))


class GatedAbmil(Abmil):
    """Gated attention: a_i = w^T (tanh(V h_i) * sigmoid(U h_i)) + c (equation 9)."""

    def __init__(self, *, hidden_dim: int, attention_dim: int, classes: int) -> None:
        super().__init__(hidden_dim=hidden_dim, attention_dim=attention_dim, classes=classes)
        self.attention_gate = nn.Linear(hidden_dim, attention_dim)

    def attend(self, instances: Float[Tensor, "instances hidden"]) -> Float[Tensor, "instances attention"]:
        """Return the vectors that the attention head weighs."""
        return torch.tanh(self.attention_tanh(instances)) * torch.sigmoid(self.attention_gate(instances))

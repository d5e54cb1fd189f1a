"""Attention-based MIL (Ilse, Tomczak, Welling, ICML 2018): bag logits as an attention-weighted mean.

With a linear bag classifier, W (sum_i a_i h_i) + b = sum_i a_i (W h_i + b) because the a_i sum to 1. So
each instance is classified first (its evidence) and only `classes` numbers an instance are pooled instead
of the hidden vector. Attention and evidence then read the same vectors by linear maps, so that all of them
are one matrix product h [V | U | W], and the gradient of h is one as well.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from wsi_kd.mil.outputs import BagOutput
from wsi_kd.mil.pooling import at_least_float32, attention_pool


class InstanceReading(NamedTuple):
    """What attention-based pooling needs of instances."""

    attention_logits: Float[Tensor, "instances"]
    evidence: Float[Tensor, "instances classes"]


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
        attention_logits, evidence = self.read(instances)
        bag_logits = attention_pool(attention_logits, evidence, offsets, keep=keep)
        return BagOutput(bag_logits, attention_logits, evidence)

    def read(self, instances: Float[Tensor, "instances hidden"]) -> InstanceReading:
        """Return what a bag is pooled from; of each instance for itself, so they may come block by block."""
        *gates, classified = fused_linear(instances, [*self.attention_layers(), self.bag_head])
        attention_logits = at_least_float32(self.attention_head(self.gate(*gates)).squeeze(-1))
        return InstanceReading(attention_logits, at_least_float32(classified))

    def evidence(self, instances: Float[Tensor, "instances hidden"]) -> Float[Tensor, "instances classes"]:
        """Return the evidence alone, which needs no attention."""
        return at_least_float32(self.bag_head(instances))

    def attend(self, instances: Float[Tensor, "instances hidden"]) -> Float[Tensor, "instances attention"]:
        """Return the vectors that the attention head weighs."""
        return self.gate(*fused_linear(instances, self.attention_layers()))

    def attention_layers(self) -> list[nn.Linear]:
        """Return the linear maps of the attention, in the order in which `gate` takes their results."""
        return [self.attention_tanh]

    def gate(self, *projected: Float[Tensor, "instances attention"]) -> Float[Tensor, "instances attention"]:
        """Combine the projections to the vectors that the attention head weighs."""
        (values,) = projected
        return torch.tanh(values)


class GatedAbmil(Abmil):
    """Gated attention: a_i = w^T (tanh(V h_i) * sigmoid(U h_i)) + c (equation 9)."""

    def __init__(self, *, hidden_dim: int, attention_dim: int, classes: int) -> None:
        super().__init__(hidden_dim=hidden_dim, attention_dim=attention_dim, classes=classes)
        self.attention_gate = nn.Linear(hidden_dim, attention_dim)

    def attention_layers(self) -> list[nn.Linear]:
        """Return V and U."""
        return [self.attention_tanh, self.attention_gate]

    def gate(self, *projected: Float[Tensor, "instances attention"]) -> Float[Tensor, "instances attention"]:
        """Combine the projections to the vectors that the attention head weighs."""
        values, gates = projected
        return torch.tanh(values) * torch.sigmoid(gates)


def fused_linear(
    instances: Float[Tensor, "instances hidden"], layers: Sequence[nn.Linear]
) -> tuple[Tensor, ...]:
    """Apply several linear layers (with biases) to the same instances by one matrix product.

    The layers keep their own weights and names: they are put side by side anew at each call, which costs a
    copy of them and spares a pass over all instances for each layer but one, and two more backward.
    """
    weight = torch.cat([layer.weight for layer in layers])
    bias = torch.cat([layer.bias for layer in layers])
    return torch.split_with_sizes(
        F.linear(instances, weight, bias), [len(layer.bias) for layer in layers], dim=1
    )

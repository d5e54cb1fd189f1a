"""Additive MIL (Javed et al., NeurIPS 2022): the bag logits are a sum of what each instance contributes.

With attention a = softmax of gated attention logits and a classifier psi, the additive model is

    bag logits = sum_i psi(a_i h_i) + b

psi is W_2 relu(W_1 .) without biases: a bias inside the sum would add its value once an instance, so that a
slide of 20,000 tiles and one of 200 could not share it (b is added once a bag instead). Such a psi is
homogeneous, psi(a h) = a psi(h) for a >= 0, so that contributions are attention times evidence, with the
evidence psi(h_i) + b independent of the bag: what differs from ABMIL is that the instance is classified by
a nonlinear network.
"""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from wsi_kd.mil.abmil import GatedAbmil
from wsi_kd.mil.outputs import BagOutput
from wsi_kd.mil.pooling import at_least_float32, attention_pool


class AdditiveMil(GatedAbmil):
    """Gated attention, then a sum of nonlinear contributions, softmax(attention_logits)_i * psi(h_i)."""

    contextual: ClassVar[bool] = False

    def __init__(self, *, hidden_dim: int, attention_dim: int, classes: int) -> None:
        super().__init__(hidden_dim=hidden_dim, attention_dim=attention_dim, classes=classes)
        self.bag_hidden = nn.Linear(hidden_dim, hidden_dim, bias=False)

    def forward(
        self,
        instances: Float[Tensor, "instances hidden"],
        offsets: Int64[Tensor, "bags_and_1"],
        keep: Bool[Tensor, "instances"] | None = None,
    ) -> BagOutput:
        """Score packed bags; instances whose `keep` is False contribute nothing.

        Raises:
            ValueError: a bag keeps no instance.
        """
        attention_logits = at_least_float32(self.attention_head(self.attend(instances)).squeeze(-1))
        evidence = self.evidence(instances)
        bag_logits = attention_pool(attention_logits, evidence, offsets, keep=keep)
        return BagOutput(bag_logits, attention_logits, evidence)

    def evidence(self, instances: Float[Tensor, "instances hidden"]) -> Float[Tensor, "instances classes"]:
        """Return psi(h_i) + b alone, which needs no attention."""
        return at_least_float32(self.bag_head(torch.relu(self.bag_hidden(instances))))

"""Mean pooling, the baseline without attention: every instance weighs the same."""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from wsi_kd.mil.outputs import BagOutput
from wsi_kd.mil.pooling import at_least_float32, attention_pool


class MeanPooling(nn.Module):
    """bag logits = W mean_i(h_i) + b = mean_i e_i, with the evidence e_i = W h_i + b.

    The attention logits are 0 for every instance, so that attention is 1 / n: labels made of it say nothing,
    those made of the evidence do.
    """

    contextual: ClassVar[bool] = False

    def __init__(self, *, hidden_dim: int, classes: int) -> None:
        super().__init__()
        self.bag_head = nn.Linear(hidden_dim, classes)

    def forward(
        self,
        instances: Float[Tensor, "instances hidden"],
        offsets: Int64[Tensor, "bags_and_1"],
        keep: Bool[Tensor, "instances"] | None = None,
    ) -> BagOutput:
        """Score packed bags; instances whose `keep` is False are left out of the mean.

        Raises:
            ValueError: a bag keeps no instance.
        """
        evidence = at_least_float32(self.bag_head(instances))
        attention_logits = torch.zeros_like(evidence[:, 0])
        bag_logits = attention_pool(attention_logits, evidence, offsets, keep=keep)
        return BagOutput(bag_logits, attention_logits, evidence)

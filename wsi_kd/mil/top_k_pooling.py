"""Top-k pooling, between max and mean pooling: the bag is the mean of its k most positive instances."""

from typing import ClassVar, Final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from wsi_kd.mil.max_pooling import NO_ATTENTION, positivity
from wsi_kd.mil.outputs import BagOutput
from wsi_kd.mil.pooling import at_least_float32, attention_pool, check_keep, descending_rank

TOP_K: Final = 5
"""Instances averaged where nobody says otherwise."""


class TopKPooling(nn.Module):
    """bag logits = 1/|M| sum_(i in M) e_i, e_i = W h_i + b, M the `top_k` instances of largest s_i.

    s_i = max_(c > 0) e_ic - e_i0, as in max pooling, which is `top_k` 1; a bag that shows fewer instances
    than `top_k` is mean pooling. One set M serves all classes. Attention logits are 0 in M and -10,000
    outside: attention is 1/|M| there and 0 elsewhere, and M depends on the bag.
    """

    contextual: ClassVar[bool] = True

    def __init__(self, *, hidden_dim: int, classes: int, top_k: int = TOP_K) -> None:
        super().__init__()
        self.top_k = top_k
        self.bag_head = nn.Linear(hidden_dim, classes)

    def forward(
        self,
        instances: Float[Tensor, "instances hidden"],
        offsets: Int64[Tensor, "bags_and_1"],
        keep: Bool[Tensor, "instances"] | None = None,
    ) -> BagOutput:
        """Score packed bags; an instance whose `keep` is False is never among the k.

        Raises:
            ValueError: a bag keeps no instance.
        """
        evidence = at_least_float32(self.bag_head(instances))
        scores = positivity(evidence).detach()
        if keep is not None:
            check_keep(keep, offsets)
            scores = scores.masked_fill(~keep, -torch.inf)
        chosen = descending_rank(scores, offsets) < self.top_k
        if keep is not None:
            chosen &= keep
        attention_logits = torch.zeros_like(evidence[:, 0]).masked_fill(~chosen, NO_ATTENTION)
        bag_logits = attention_pool(attention_logits, evidence, offsets)
        return BagOutput(bag_logits, attention_logits, evidence)

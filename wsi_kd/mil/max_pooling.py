"""Max pooling, the baseline of instance-level MIL: the bag is what its most positive instance is."""

from typing import ClassVar, Final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from wsi_kd.mil.outputs import BagOutput
from wsi_kd.mil.pooling import at_least_float32, segment_argmax

NO_ATTENTION: Final = -1e4
"""Attention logit of all but the maximum: exp of it is 0 in float32 and float64, and it is finite."""


class MaxPooling(nn.Module):
    """bag logits = e_m, m = argmax_i s_i, s_i = max_(c > 0) e_ic - e_i0, e_i = W h_i + b.

    Class 0 is the negative one; s_i is how much more some other class says. One instance is taken for all
    classes, so that the bag logits are logits of something that is in the bag (the largest logit of each
    class would mix instances). The attention logit is 0 for m and -10,000 for all others: attention is 1
    there and 0 elsewhere, and which instance that is depends on the bag. A single class has s_i = e_i0.
    """

    contextual: ClassVar[bool] = True

    def __init__(self, *, hidden_dim: int, classes: int) -> None:
        super().__init__()
        self.bag_head = nn.Linear(hidden_dim, classes)

    def forward(
        self,
        instances: Float[Tensor, "instances hidden"],
        offsets: Int64[Tensor, "bags_and_1"],
        keep: Bool[Tensor, "instances"] | None = None,
    ) -> BagOutput:
        """Score packed bags; an instance whose `keep` is False cannot be the maximum.

        Raises:
            ValueError: a bag keeps no instance.
        """
        evidence = at_least_float32(self.bag_head(instances))
        chosen = segment_argmax(positivity(evidence), offsets, keep=keep)
        attention_logits = torch.full_like(evidence[:, 0], NO_ATTENTION).index_fill(0, chosen, 0.0)
        return BagOutput(evidence[chosen], attention_logits, evidence)


def positivity(evidence: Float[Tensor, "instances classes"]) -> Float[Tensor, "instances"]:
    """Return the margin of the best positive class over class 0.

    >>> positivity(torch.tensor([[1.0, 3.0, 2.0], [0.0, -1.0, -4.0]])).tolist()
    [2.0, -1.0]
    """
    if evidence.shape[1] == 1:
        return evidence[:, 0]
    return evidence[:, 1:].amax(dim=1) - evidence[:, 0]

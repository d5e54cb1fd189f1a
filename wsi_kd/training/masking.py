"""Hide from a bag classifier the instances that its moving average finds most telling (MHIM).

Source: Tang et al., "Multiple Instance Learning Framework with Masked Hard Instance Mining for Whole Slide
Image Classification", ICCV 2023, high attention masking.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from wsi_kd.mil.pooling import descending_rank


@torch.no_grad()
def salience(
    attention_logits: Float[Tensor, "instances"], evidence: Float[Tensor, "instances classes"]
) -> Float[Tensor, "instances"]:
    """Return log(attention x probability of a positive class), up to a constant of the bag.

    a_i + log(1 - p_i0), p_i the softmax of the evidence: the attention alone says nothing of the class, and
    the bag's own label would make the mask tell it. Ranks within a bag are those of softmax(a)_i (1 - p_i0);
    the logarithm keeps apart what would underflow to 0.

    >>> found = salience(torch.tensor([0.0, 0.0]), torch.tensor([[0.0, 0.0], [0.0, 2.0]])).exp()
    >>> [round(value, 3) for value in found.tolist()]
    [0.5, 0.881]
    """
    log_probabilities = evidence.log_softmax(dim=1)
    return attention_logits + log_probabilities[:, 1:].logsumexp(dim=1)


@torch.no_grad()
def hide_highest(
    scores: Float[Tensor, "instances"], offsets: Int64[Tensor, "bags_and_1"], *, ratio: float
) -> Bool[Tensor, "instances"]:
    """Return which instances stay (True): all of a bag but its ceil(ratio * size) of highest score.

    At least one is hidden in every bag, positive or negative, so that the mask tells nothing of the label; a
    bag keeps at least one, so that a bag of one instance hides none. The earlier of equals is hidden.

    >>> hide_highest(torch.tensor([1.0, 3.0, 2.0, 5.0]), torch.tensor([0, 3, 4]), ratio=0.02).tolist()
    [True, False, True, True]
    """
    sizes = offsets.diff()
    # of a product that rounds just above a whole number, that number
    wanted = (sizes.double() * ratio - 1e-9).ceil().long().clamp(min=1)
    hidden = torch.minimum(wanted, sizes - 1)
    ids = torch.repeat_interleave(
        torch.arange(len(sizes), device=sizes.device), sizes, output_size=len(scores)
    )
    return descending_rank(scores, offsets) >= hidden[ids]

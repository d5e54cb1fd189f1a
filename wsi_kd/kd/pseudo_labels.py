"""Soft instance labels from a bag teacher: in [0, 1], without gradient, exactly 0 in negative bags.

With a_i the attention logits, e_i the evidence logit (positive minus negative), clamped to [1e-5, 1 - 1e-5]:

    minmax_global       (a_i - low) / (high - low)     over the whole training part: the paper's released form
    minmax_bag          (a_i - min a) / (max a - min a)       over the instance's bag: the paper's text
    expmax              exp(a_i - max a)               softmax divided by its largest value
    attention_evidence  exp(a_i - max a) * sigmoid(e_i)
    evidence            sigmoid(e_i)                   the only one that knows no attention

Source: Qu et al., "Bi-directional Weakly Supervised Knowledge Distillation for Whole Slide Image
Classification", NeurIPS 2022, section 3.2; the last three are ours.
"""

from typing import Final, Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int64
from torch import Tensor

PseudoLabelMode: TypeAlias = Literal[
    "minmax_global", "minmax_bag", "expmax", "attention_evidence", "evidence"
]

LABEL_MARGIN: Final = 1e-5
SMALLEST_RANGE: Final = 1e-6


class AttentionRange(NamedTuple):
    """Smallest and largest attention logit seen, of all bags and unmasked."""

    low: Float[Tensor, ""]
    high: Float[Tensor, ""]

    def union(self, attention_logits: Float[Tensor, "instances"]) -> "AttentionRange":
        """Widen the range by more logits."""
        low, high = attention_range(attention_logits)
        return AttentionRange(torch.minimum(self.low, low), torch.maximum(self.high, high))


def attention_range(attention_logits: Float[Tensor, "instances"]) -> AttentionRange:
    """Return the range of attention logits."""
    low, high = attention_logits.detach().aminmax()
    return AttentionRange(low, high)


@torch.no_grad()
def pseudo_labels(
    mode: PseudoLabelMode,
    *,
    attention_logits: Float[Tensor, "instances"],
    evidence_logits: Float[Tensor, "instances"],
    offsets: Int64[Tensor, "bags_and_1"],
    bag_labels: Int64[Tensor, "bags"],
    floor: float = 0.0,
    global_range: AttentionRange | None = None,
) -> Float[Tensor, "instances"]:
    """Return the soft labels of packed bags; equal scores give 0 or 1e-5, never NaN.

    `global_range` is what `minmax_global` divides by: that of these bags where it is None. `floor` raises
    the label q of every instance of a positive bag to floor + (1 - floor) q: the share of the bag's own
    label, which no error of the teacher can reach.

    >>> labels = pseudo_labels(
    ...     "minmax_bag",
    ...     attention_logits=torch.tensor([1.0, 2.0, 3.0, 9.0]),
    ...     evidence_logits=torch.zeros(4),
    ...     offsets=torch.tensor([0, 3, 4]),
    ...     bag_labels=torch.tensor([1, 0]),
    ... )
    >>> [round(label, 3) for label in labels.tolist()]
    [0.0, 0.5, 1.0, 0.0]
    """
    bags = torch.repeat_interleave(
        torch.arange(len(bag_labels), device=offsets.device),
        offsets.diff(),
        output_size=len(attention_logits),
    )
    if mode == "evidence":
        soft = evidence_logits.sigmoid()
    elif mode == "minmax_global":
        low, high = attention_range(attention_logits) if global_range is None else global_range
        soft = (attention_logits - low) / (high - low).clamp(min=SMALLEST_RANGE)
    else:
        highest = _per_bag(attention_logits, "max", offsets)[bags]
        if mode == "minmax_bag":
            lowest = _per_bag(attention_logits, "min", offsets)[bags]
            soft = (attention_logits - lowest) / (highest - lowest).clamp(min=SMALLEST_RANGE)
        else:
            soft = (attention_logits - highest).exp()
            soft = soft * evidence_logits.sigmoid() if mode == "attention_evidence" else soft
    raised = floor + (1.0 - floor) * soft
    return raised.clamp(LABEL_MARGIN, 1.0 - LABEL_MARGIN) * (bag_labels[bags] == 1)


def _per_bag(
    values: Float[Tensor, "instances"], reduce: str, offsets: Int64[Tensor, "bags_and_1"]
) -> Float[Tensor, "bags"]:
    return torch.segment_reduce(values, reduce, offsets=offsets, axis=0, unsafe=True)

"""Soft instance labels from a bag teacher: in [0, 1], without gradient, exactly 0 in negative bags.

With a_i the attention logit of an instance, e_i the log odds of its bag's class c against all others by the
evidence, v_ic - log sum_(k != c) exp v_ik (two classes: v_i1 - v_i0), clamped to [1e-5, 1 - 1e-5]:

    minmax_global       (a_i - low) / (high - low)     over the whole training part: the paper's released form
    minmax_bag          (a_i - min a) / (max a - min a)       over the instance's bag: the paper's text
    expmax              exp(a_i - max a)               softmax divided by its largest value
    attention_evidence  exp(a_i - max a) * sigmoid(e_i)
    evidence            sigmoid(e_i)                   the only one that knows no attention

The label stands in the column of the bag's class; a positive bag says nothing for the other positive
classes but "not here", so that their columns are exactly 0 as all of a negative bag's are.

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
    """Smallest and largest attention logit seen, of each branch where there is one a class."""

    low: Float[Tensor, "*classes"]
    high: Float[Tensor, "*classes"]

    def union(self, attention_logits: Float[Tensor, "instances *classes"]) -> "AttentionRange":
        """Widen the range by more logits."""
        low, high = attention_range(attention_logits)
        return AttentionRange(torch.minimum(self.low, low), torch.maximum(self.high, high))


def attention_range(attention_logits: Float[Tensor, "instances *classes"]) -> AttentionRange:
    """Return the range of attention logits over the instances."""
    low, high = attention_logits.detach().aminmax(dim=0)
    return AttentionRange(low, high)


@torch.no_grad()
def pseudo_labels(
    mode: PseudoLabelMode,
    *,
    attention_logits: Float[Tensor, "instances *classes"] | None,
    evidence: Float[Tensor, "instances classes"],
    offsets: Int64[Tensor, "bags_and_1"],
    bag_labels: Int64[Tensor, "bags"],
    floor: float = 0.0,
    global_range: AttentionRange | None = None,
) -> Float[Tensor, "instances positives"]:
    """Return the soft labels of packed bags; equal scores give 0 or 1e-5, never NaN.

    Column c - 1 is class c. Attention logits are one an instance, or one a class, of which the bag's own is
    taken; `evidence` does without. `global_range` is what `minmax_global` divides by: that of these bags
    where it is None. `floor` raises the label q of every instance of a positive bag to floor + (1 - floor) q:
    the share of the bag's own label, which no error of the teacher can reach.

    >>> labels = pseudo_labels(
    ...     "minmax_bag",
    ...     attention_logits=torch.tensor([1.0, 2.0, 3.0, 9.0]),
    ...     evidence=torch.zeros(4, 3),
    ...     offsets=torch.tensor([0, 3, 4]),
    ...     bag_labels=torch.tensor([2, 0]),
    ... )
    >>> [[round(label, 3) for label in row] for row in labels.tolist()]
    [[0.0, 0.0], [0.0, 0.5], [0.0, 1.0], [0.0, 0.0]]
    """
    classes = bag_labels[_bag_of_instance(offsets, len(evidence))]
    if mode == "evidence":
        soft = log_odds(evidence, classes).sigmoid()
    elif attention_logits is None:
        raise ValueError(f"{mode} labels are made of attention logits, and none were given")
    elif mode == "minmax_global":
        low, high = attention_range(attention_logits) if global_range is None else global_range
        soft = _own((attention_logits - low) / (high - low).clamp(min=SMALLEST_RANGE), classes)
    else:
        soft = _within_bags(mode, _own(attention_logits, classes), offsets)
        soft = soft * log_odds(evidence, classes).sigmoid() if mode == "attention_evidence" else soft
    raised = (floor + (1.0 - floor) * soft).clamp(LABEL_MARGIN, 1.0 - LABEL_MARGIN)
    positives = torch.arange(1, evidence.shape[1], device=classes.device)
    return raised[:, None] * (classes[:, None] == positives)


def log_odds(
    evidence: Float[Tensor, "instances classes"], classes: Int64[Tensor, "instances"]
) -> Float[Tensor, "instances"]:
    """Return the log odds of one class an instance against all others: v_c - log sum_(k != c) exp v_k.

    >>> log_odds(torch.tensor([[1.0, 3.0], [1.0, 3.0]]), torch.tensor([1, 0])).tolist()
    [2.0, -2.0]
    """
    own = classes[:, None]
    return evidence.gather(1, own).squeeze(1) - evidence.scatter(1, own, -torch.inf).logsumexp(dim=1)


def _own(
    values: Float[Tensor, "instances *classes"], classes: Int64[Tensor, "instances"]
) -> Float[Tensor, "instances"]:
    """Take the column of each instance's class, where there is one a class."""
    return values if values.ndim == 1 else values.gather(1, classes[:, None]).squeeze(1)


def _within_bags(
    mode: PseudoLabelMode, attention_logits: Float[Tensor, "instances"], offsets: Int64[Tensor, "bags_and_1"]
) -> Float[Tensor, "instances"]:
    bags = _bag_of_instance(offsets, len(attention_logits))
    highest = _per_bag(attention_logits, "max", offsets)[bags]
    if mode == "minmax_bag":
        lowest = _per_bag(attention_logits, "min", offsets)[bags]
        return (attention_logits - lowest) / (highest - lowest).clamp(min=SMALLEST_RANGE)
    return (attention_logits - highest).exp()


def _bag_of_instance(offsets: Int64[Tensor, "bags_and_1"], instances: int) -> Int64[Tensor, "instances"]:
    bags = torch.arange(len(offsets) - 1, device=offsets.device)
    return torch.repeat_interleave(bags, offsets.diff(), output_size=instances)


def _per_bag(
    values: Float[Tensor, "instances"], reduce: str, offsets: Int64[Tensor, "bags_and_1"]
) -> Float[Tensor, "bags"]:
    return torch.segment_reduce(values, reduce, offsets=offsets, axis=0, unsafe=True)

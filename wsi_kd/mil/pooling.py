"""Pooling over packed bags: all instances in one tensor, bag b being rows offsets[b]:offsets[b+1].

No padding, no loop over bags, no atomics: every sum runs over a bag's rows in order, so the same input
gives the same bits. Half precision is raised to float32 first (a sum of 10,000 bfloat16 weights would lose
all below 2^-8).
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


def segment_ids(offsets: Int64[Tensor, "bags_and_1"], instances: int) -> Int64[Tensor, "instances"]:
    """Return the bag index of every instance.

    >>> segment_ids(torch.tensor([0, 2, 3]), 3).tolist()
    [0, 0, 1]
    """
    bags = torch.arange(len(offsets) - 1, device=offsets.device)
    return torch.repeat_interleave(bags, offsets.diff(), output_size=instances)


def segment_softmax(
    attention_logits: Float[Tensor, "instances"],
    offsets: Int64[Tensor, "bags_and_1"],
    keep: Bool[Tensor, "instances"] | None = None,
) -> Float[Tensor, "instances"]:
    """Softmax within each bag; an instance whose `keep` is False gets exactly 0.

    >>> segment_softmax(torch.tensor([0.0, 0.0, 5.0]), torch.tensor([0, 2, 3])).tolist()
    [0.5, 0.5, 1.0]

    Raises:
        ValueError: a bag keeps no instance.
    """
    weights = _stable_exp(attention_logits, offsets, keep)
    return weights / segment_sum(weights, offsets)[segment_ids(offsets, len(weights))]


def attention_pool(
    attention_logits: Float[Tensor, "instances"],
    values: Float[Tensor, "instances values"],
    offsets: Int64[Tensor, "bags_and_1"],
    *,
    keep: Bool[Tensor, "instances"] | None = None,
) -> Float[Tensor, "bags values"]:
    """Mean of `values` by the segment softmax: sum_i e_i v_i / sum_i e_i with e_i = exp(a_i - max a).

    Dividing once a bag instead of once an instance spares the gather of the sums, and its backward.

    Raises:
        ValueError: a bag keeps no instance.
    """
    weights = _stable_exp(attention_logits, offsets, keep)
    weighted = segment_sum(weights[:, None] * at_least_float32(values), offsets)
    return weighted / segment_sum(weights, offsets)[:, None]


def segment_sum(
    values: Float[Tensor, "instances *rest"], offsets: Int64[Tensor, "bags_and_1"]
) -> Float[Tensor, "bags *rest"]:
    """Sum over each bag."""
    return _segment_reduce(values, "sum", offsets)


def segment_mean(
    values: Float[Tensor, "instances *rest"], offsets: Int64[Tensor, "bags_and_1"]
) -> Float[Tensor, "bags *rest"]:
    """Mean over each bag."""
    return _segment_reduce(values, "mean", offsets)


def segment_max(
    values: Float[Tensor, "instances *rest"], offsets: Int64[Tensor, "bags_and_1"]
) -> Float[Tensor, "bags *rest"]:
    """Largest value of each bag; ties share the gradient."""
    return _segment_reduce(values, "max", offsets)


def segment_argmax(
    values: Float[Tensor, "instances *rest"],
    offsets: Int64[Tensor, "bags_and_1"],
    *,
    keep: Bool[Tensor, "instances"] | None = None,
) -> Int64[Tensor, "bags *rest"]:
    """Row of each bag's largest kept value, the first of equals; one pass, no sort.

    >>> segment_argmax(torch.tensor([1.0, 3.0, 3.0, 2.0]), torch.tensor([0, 3, 4])).tolist()
    [1, 3]

    Raises:
        ValueError: a bag keeps no instance.
    """
    values = at_least_float32(values.detach())
    trailing = [1] * (values.ndim - 1)
    if keep is not None:
        check_keep(keep, offsets)
        values = values.masked_fill(~keep.view(-1, *trailing), -torch.inf)
    largest = segment_max(values, offsets)[segment_ids(offsets, len(values))]
    rows = torch.arange(len(values), device=values.device, dtype=torch.float64).view(-1, *trailing)
    first = _segment_reduce(torch.where(values == largest, rows, torch.inf), "min", offsets)
    # a bag of NaN has no largest value: its last row, so that the loss and not an index tells of it
    return torch.minimum(first, (offsets[1:] - 1).double().view(-1, *trailing)).long()


def segment_top_k_mean(
    values: Float[Tensor, "instances"], offsets: Int64[Tensor, "bags_and_1"], *, top_k: int
) -> Float[Tensor, "bags"]:
    """Mean of each bag's `top_k` largest values; of all where the bag has fewer.

    >>> segment_top_k_mean(torch.tensor([3.0, 1.0, 2.0, 7.0]), torch.tensor([0, 3, 4]), top_k=2).tolist()
    [2.5, 7.0]
    """
    chosen = descending_rank(values, offsets) < top_k
    total = segment_sum(torch.where(chosen, values, 0.0), offsets)
    return total / offsets.diff().clamp(max=top_k)


def descending_rank(
    values: Float[Tensor, "instances"], offsets: Int64[Tensor, "bags_and_1"]
) -> Int64[Tensor, "instances"]:
    """Rank of each instance within its bag, 0 = largest; ties keep their order."""
    ids = segment_ids(offsets, len(values))
    by_value = values.detach().argsort(descending=True, stable=True)
    by_bag = by_value[ids[by_value].argsort(stable=True)]
    ranks = torch.empty_like(ids)
    ranks[by_bag] = torch.arange(len(values), device=values.device) - offsets[:-1][ids]
    return ranks


def at_least_float32(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Raise half precision to float32; float32 and float64 stay."""
    return values.float() if values.dtype in {torch.float16, torch.bfloat16} else values


def _stable_exp(
    attention_logits: Float[Tensor, "instances"],
    offsets: Int64[Tensor, "bags_and_1"],
    keep: Bool[Tensor, "instances"] | None,
) -> Float[Tensor, "instances"]:
    logits = at_least_float32(attention_logits)
    if keep is not None:
        check_keep(keep, offsets)
        logits = logits.masked_fill(~keep, -torch.inf)
    largest = segment_max(logits.detach(), offsets)
    return (logits - largest[segment_ids(offsets, len(logits))]).exp()


def check_keep(keep: Bool[Tensor, "instances"], offsets: Int64[Tensor, "bags_and_1"]) -> None:
    """Check that every bag keeps an instance, on a CPU.

    A GPU is not waited for: there the logits of such a bag become NaN, which the training's ledger of losses
    reports with the bag's name at the end of the epoch.

    Raises:
        ValueError: naming the first bag that does not.
    """
    if keep.device.type != "cpu":
        return
    empty = np.flatnonzero(segment_sum(keep.float(), offsets).numpy() == 0)
    if len(empty):
        raise ValueError(f"bag {empty[0]} keeps no instance; `keep` must leave every bag at least one")


def _segment_reduce(
    values: Float[Tensor, "instances *rest"], reduce: str, offsets: Int64[Tensor, "bags_and_1"]
) -> Float[Tensor, "bags *rest"]:
    # unsafe=True only skips torch's check of the offsets, which would wait for the GPU at every call
    return torch.segment_reduce(at_least_float32(values), reduce, offsets=offsets, axis=0, unsafe=True)

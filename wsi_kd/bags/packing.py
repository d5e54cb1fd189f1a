"""Whole bags of different sizes in one step: laid end to end with offsets, never padded."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64

from wsi_kd.bags.datasets import BagSet


class PackedBags(NamedTuple):
    """Several bags on one device; bag i is `instances[offsets[i]:offsets[i + 1]]`."""

    instances: Float[torch.Tensor, "instances features"]
    offsets: Int64[torch.Tensor, "bags+1"]
    labels: Int64[torch.Tensor, "bags"]


def pack(
    bags: BagSet, bag_indices: Sequence[int], *, device: torch.device | str, dtype: torch.dtype
) -> PackedBags:
    """Copy the bags at `bag_indices`, in that order, to `device`.

    Features travel as stored (float16 is half the bytes) and become `dtype` there. The result shares no
    memory with `bags`.
    """
    indices = np.asarray(bag_indices, dtype=np.int64)
    starts, stops = bags.offsets[indices], bags.offsets[indices + 1]
    instances = np.concatenate([bags.features[start:stop] for start, stop in zip(starts, stops, strict=True)])
    offsets = np.concatenate([[0], np.cumsum(stops - starts)])
    return PackedBags(
        instances=torch.from_numpy(instances).to(device).to(dtype),
        offsets=torch.from_numpy(offsets).to(device),
        labels=torch.from_numpy(bags.labels[indices]).to(device),
    )


def plan_batches(
    bag_sizes: Sequence[int], order: Iterable[int], *, token_budget: int, bags_per_step: int
) -> list[list[int]]:
    """Cut `order` (bag indices) into steps of whole bags.

    A step takes the next bag while it holds fewer than `bags_per_step` bags and, with it, at most
    `token_budget` instances; a bag larger than the budget goes alone.

    >>> plan_batches([3, 2, 9, 1, 1], [0, 1, 2, 3, 4], token_budget=5, bags_per_step=2)
    [[0, 1], [2], [3, 4]]
    """
    batches: list[list[int]] = []
    taken = 0
    for index in order:
        if batches and taken + bag_sizes[index] <= token_budget and len(batches[-1]) < bags_per_step:
            batches[-1].append(index)
            taken += bag_sizes[index]
        else:
            batches.append([index])
            taken = bag_sizes[index]
    return batches

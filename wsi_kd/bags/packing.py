"""Whole bags of different sizes in one step: laid end to end with offsets, never padded."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8

from wsi_kd.bags.datasets import BagSet
from wsi_kd.bags.rows import Rows, end_to_end
from wsi_kd.core.shapes import FeatureArray

Instances: TypeAlias = Float[torch.Tensor, "instances features"] | UInt8[torch.Tensor, "instances features"]
"""Features, or pixels as they are stored."""
ROWS_AT_ONCE: Final = 16_384
"""Rows a block on the way to a GPU."""


class PackedBags(NamedTuple):
    """Several bags on one device; bag i is `instances[offsets[i]:offsets[i + 1]]`."""

    instances: Instances
    offsets: Int64[torch.Tensor, "bags+1"]
    labels: Int64[torch.Tensor, "bags"]


def pack(
    bags: BagSet,
    bag_indices: Sequence[int],
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    resident: Instances | None = None,
) -> PackedBags:
    """Copy the bags at `bag_indices`, in that order, to `device`.

    Features travel as stored (float16 is half the bytes) and become `dtype` there; pixels stay uint8, a
    quarter of their bytes, until a projector reads them. Where `resident` holds all features of `bags` on
    the device already, they are taken from it. The result shares no memory with `bags`.
    """
    indices = np.asarray(bag_indices, dtype=np.int64)
    spans = [slice(bags.offsets[index], bags.offsets[index + 1]) for index in indices]
    if resident is None:
        stored = end_to_end(bags.features, spans)
        instances = on_device(stored, device=device, dtype=dtype)
    else:
        instances = _in_dtype(torch.cat([resident[span] for span in spans]), dtype)
    offsets = np.concatenate([[0], np.cumsum([span.stop - span.start for span in spans])]).astype(np.int64)
    return PackedBags(
        instances=instances,
        offsets=moved(torch.from_numpy(offsets), device),
        labels=moved(torch.from_numpy(bags.labels[indices]), device),
    )


def on_device(features: FeatureArray, *, device: torch.device | str, dtype: torch.dtype) -> Instances:
    """Bring features to `device` as they are stored, and there to `dtype`; pixels stay uint8."""
    return _in_dtype(moved(torch.from_numpy(features), device), dtype)


def resident_features(bags: BagSet, device: torch.device) -> Instances | None:
    """Return all features as stored on a GPU where they fill less than half of its free memory, else None.

    A step of a few bags takes less time than their way to the GPU. They go there in blocks, so that of what
    is on disk no more is held.
    """
    if device.type != "cuda" or bags.features.nbytes > torch.cuda.mem_get_info(device)[0] // 2:
        return None
    return copied_to(device, bags.features)


def copied_to(device: torch.device, rows: Rows) -> Instances:
    """Copy rows to `device` as they are stored, in blocks."""
    held = torch.empty(rows.shape, dtype=torch.from_numpy(rows[:0]).dtype, device=device)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        block = torch.from_numpy(rows[start : start + ROWS_AT_ONCE])
        held[start : start + len(block)] = block.to(device)
    return held


def moved(values: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """Bring a tensor from the CPU to `device`; the host does not wait for it."""
    # a copy from pageable memory would wait until the GPU has done all it was given before
    on_gpu = torch.device(device).type == "cuda"
    return values.pin_memory().to(device, non_blocking=True) if on_gpu else values.to(device)


def _in_dtype(features: Instances, dtype: torch.dtype) -> Instances:
    return features if features.dtype == torch.uint8 else features.to(dtype)


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

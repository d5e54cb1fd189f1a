"""What must hold of bags before a step is taken, and what the model and the resumed run take from them."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from wsi_kd.bags.datasets import BagSet
from wsi_kd.bags.rows import RowsOnDisk
from wsi_kd.core.errors import BadInput
from wsi_kd.core.finite import all_finite
from wsi_kd.core.machine import usable_cpus
from wsi_kd.mil.colors import color_statistics

ROWS_AT_ONCE: Final = 256


def check_bags(bags: BagSet, *, classes: int, part: str) -> None:
    """Check that no bag is empty, every feature is finite and every class is there.

    Raises:
        BadInput: naming the part, and the bags or the class.
    """
    empty = [bags.slide_ids[index] for index in np.flatnonzero(np.diff(bags.offsets) == 0)]
    if empty:
        raise BadInput(f"{part} part: bags without instances: {', '.join(empty)}; leave these slides out")
    damaged = [
        slide_id
        for slide_id, (start, end) in zip(bags.slide_ids, pairwise(bags.offsets), strict=True)
        # what is on disk was looked at when it was hashed, a moment ago
        if not (isinstance(bags.features, RowsOnDisk) or all_finite(bags.features[start:end]))
    ]
    if damaged:
        raise BadInput(
            f"{part} part: features that are not finite in: {', '.join(damaged)}; embed these slides again"
        )
    absent = sorted(set(range(classes)) - set(np.unique(bags.labels).tolist()))
    if absent:
        raise BadInput(
            f"{part} part: no bag of class {absent[0]} among {len(bags.labels)} bags; "
            "use fewer folds or add slides of that class"
        )


def feature_moments(bags: BagSet) -> tuple[Float[Tensor, "features"], Float[Tensor, "features"]]:
    """Return mean and standard deviation of every feature over all instances, summed in float64.

    Within a block of `ROWS_AT_ONCE` rows the numbers are float32, and so are their distances from the mean.
    Of pixels those of the tiles' color statistics.
    """
    if bags.features.dtype == np.uint8:
        tiles = (torch.from_numpy(bags.features[start:end]) for start, end in pairwise(bags.offsets))
        colors = torch.cat([color_statistics(of_bag) for of_bag in tiles]).double()
        return colors.mean(dim=0).float(), colors.std(dim=0, correction=0).float()
    count, width = bags.features.shape
    total, squares = torch.zeros(2, width, dtype=torch.float64)
    for block in _blocks(bags):
        total += block.sum(dim=0, dtype=torch.float64)
    mean = (total / count).float()
    for block in _blocks(bags):
        squares += block.sub(mean).square_().sum(dim=0, dtype=torch.float64)
    return mean, (squares / count).sqrt().float()


def bags_hash(*parts: BagSet) -> str:
    """Return a sha256 of everything that training reads of the bags: over the sha256 of each bag.

    Bags are hashed by as many threads as this process may use cores.
    """
    digest = hashlib.sha256()
    with ThreadPoolExecutor(usable_cpus()) as pool:
        for part in parts:
            digest.update("\n".join(part.slide_ids).encode())
            for array in (part.labels, part.offsets):
                digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
            digest.update(f"{part.features.dtype} {part.features.shape}".encode())
            for of_bag in pool.map(_sha256, [part] * len(part.labels), range(len(part.labels))):
                digest.update(of_bag)
    return digest.hexdigest()


def _sha256(bags: BagSet, index: int) -> bytes:
    """Return that of a bag's features; of a checked file it is known."""
    if isinstance(bags.features, RowsOnDisk):
        return bags.features.parts[index].sha256
    array = bags.features[bags.offsets[index] : bags.offsets[index + 1]]
    return hashlib.sha256(np.ascontiguousarray(array).data).digest()


def _blocks(bags: BagSet) -> Iterator[Float[Tensor, "rows features"]]:
    """Yield the features in float32, in pieces that the processor's cache holds."""
    for start in range(0, len(bags.features), ROWS_AT_ONCE):
        rows = bags.features[start : start + ROWS_AT_ONCE]
        yield torch.from_numpy(rows if rows.flags.writeable else rows.copy()).float()

"""What must hold of bags before a step is taken, and what the model and the resumed run take from them."""

import hashlib
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from wsi_kd.bags.datasets import BagSet
from wsi_kd.core.errors import BadInput
from wsi_kd.mil.colors import color_statistics

ROWS_AT_ONCE: Final = 65_536


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
        if bags.features.dtype != np.uint8 and not np.isfinite(bags.features[start:end]).all()
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

    Of pixels those of the tiles' color statistics.
    """
    if bags.features.dtype == np.uint8:
        colors = color_statistics(torch.from_numpy(bags.features)).double()
        return colors.mean(dim=0).float(), colors.std(dim=0, correction=0).float()
    count = len(bags.features)
    mean = sum(block.sum(axis=0) for block in _blocks(bags)) / count
    variance = sum(((block - mean) ** 2).sum(axis=0) for block in _blocks(bags)) / count
    return torch.from_numpy(mean).float(), torch.from_numpy(np.sqrt(variance)).float()


def bags_hash(*parts: BagSet) -> str:
    """Return a sha256 of everything that training reads of the bags."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update("\n".join(part.slide_ids).encode())
        for array in (part.labels, part.offsets, part.features):
            digest.update(f"{array.dtype} {array.shape}".encode())
            for start in range(0, len(array), ROWS_AT_ONCE):
                digest.update(np.ascontiguousarray(array[start : start + ROWS_AT_ONCE]).data)
    return digest.hexdigest()


def _blocks(bags: BagSet) -> Iterator[np.ndarray]:
    for start in range(0, len(bags.features), ROWS_AT_ONCE):
        yield bags.features[start : start + ROWS_AT_ONCE].astype(np.float64)

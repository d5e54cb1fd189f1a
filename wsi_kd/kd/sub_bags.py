"""Cut bags at random into pieces that all carry their bag's label: truncation that cannot tell the label.

Each instance is seen away from most of its bag: a piece that got none of the easy positives leaves the
teacher only the hard ones to explain its label by. Bags of all classes are cut alike, so that, unlike with
the paper's mining, there is no mask to be learned. A piece without any positive has a wrong label; the more
pieces, the more of those.

Source: the random pseudo-bags of Zhang et al., "DTFD-MIL", CVPR 2022, section 3.2; here drawn anew at every
step, for one and the same teacher, which is asked on whole bags otherwise.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64

from wsi_kd.core.draws import WholeBatch, drawn_rows


class Cut(NamedTuple):
    """How packed bags are cut; on the CPU, where the sizes of bags are known without waiting for a GPU."""

    order: Int64[np.ndarray, "instances"]
    """Where the instances stood, piece by piece; bags stay in one stretch, and a piece keeps its order."""
    offsets: Int64[np.ndarray, "pieces_and_1"]
    """Piece j is `order[offsets[j]:offsets[j + 1]]`."""
    bags: Int64[np.ndarray, "pieces"]
    """The bag of each piece."""


def cut_bags(
    sizes: Int64[np.ndarray, "bags"],
    *,
    pieces: int,
    generator: torch.Generator,
    whole: WholeBatch | None = None,
) -> Cut:
    """Cut bags of these sizes at random into `pieces` pieces each, the sizes of a bag's equal or one apart.

    A bag of fewer instances becomes pieces of one. `whole` is the batch that the bags belong to, where
    several processes share it.

    >>> cut = cut_bags(np.array([4, 1]), pieces=2, generator=torch.Generator().manual_seed(0))
    >>> cut.offsets.tolist(), cut.bags.tolist()
    ([0, 2, 4, 5], [0, 0, 1])
    """
    counts = np.minimum(sizes, pieces)
    bags = np.repeat(np.arange(len(sizes)), sizes)
    starts = np.cumsum(sizes) - sizes
    lots = drawn_rows(lambda rows: torch.rand(rows, generator=generator), len(bags), whole=whole)
    shuffled = np.lexsort((lots.numpy(), bags))
    piece = np.empty_like(bags)
    # dealt out like cards: the first of a shuffled bag to its first piece, the next to its second
    piece[shuffled] = (np.arange(len(bags)) - starts[bags]) % pieces + (np.cumsum(counts) - counts)[bags]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(piece))])
    return Cut(np.argsort(piece, kind="stable"), offsets, np.repeat(np.arange(len(sizes)), counts))

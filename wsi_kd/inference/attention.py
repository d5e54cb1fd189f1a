"""Attention in two readable units; the softmax itself shrinks with the number of tiles."""

from typing import TypeAlias

import numpy as np
from jaxtyping import Float64

from wsi_kd.core.midranks import midranks

Attention: TypeAlias = Float64[np.ndarray, "tiles"]


def attention_times_tiles(attention: Attention) -> Attention:
    """Return attention x number of tiles: 1 is an even spread, 5 is five times that, in a slide of any size.

    >>> attention_times_tiles(np.array([0.5, 0.25, 0.25, 0.0])).tolist()
    [2.0, 1.0, 1.0, 0.0]
    """
    return attention * len(attention)


def attention_percentile(attention: Attention) -> Attention:
    """Return each tile's rank within its slide: 100 (rank - 1) / (tiles - 1), ties at their mean rank.

    One tile alone has no order: 50. Attention that is not a number has no rank: NaN, the others are ranked.

    >>> attention_percentile(np.array([0.5, 0.1, 0.4])).tolist()
    [100.0, 0.0, 50.0]
    """
    percentile = np.where(np.isnan(attention), np.nan, 50.0)
    known = ~np.isnan(attention)
    others = np.count_nonzero(known) - 1
    if others > 0:
        percentile[known] = (midranks(attention[known]) - 1.0) * (100.0 / others)
    return percentile

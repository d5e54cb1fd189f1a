"""Attention in two readable units; the softmax itself shrinks with the number of tiles."""

from typing import TypeAlias

import numpy as np
from jaxtyping import Float64
from scipy.stats import rankdata

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
    known = np.count_nonzero(~np.isnan(attention))
    if known <= 1:
        return np.where(np.isnan(attention), np.nan, 50.0)
    ranks = np.asarray(rankdata(attention, nan_policy="omit"), dtype=np.float64)
    return (ranks - 1.0) * (100.0 / (known - 1))

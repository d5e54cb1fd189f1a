"""How many tiles of a slide are notable: what a page shows of the measures, whatever is left out."""

from typing import Final, NamedTuple

import numpy as np

from wsi_kd.features.quality_columns import TileMeasures


class NotableLimits(NamedTuple):
    """Beyond what a tile is worth a look; which tiles are left out is settings' to say."""

    min_sharpness: float
    max_pen_fraction: float
    max_background_fraction: float


NOTABLE: Final = NotableLimits(min_sharpness=0.2, max_pen_fraction=0.1, max_background_fraction=0.5)
"""A tile less sharp counts as blurred, one with more pen as marked, one with more glass as empty."""


def quality_counts(measures: TileMeasures | None) -> dict[str, int]:
    """Count measured tiles and those beyond each limit of `NOTABLE`; {} where nothing was measured.

    >>> rows = np.array([[0.5, 0.0, 0.0], [0.1, 1.0, 0.0]], np.float32)
    >>> quality_counts(TileMeasures(*rows.T))
    {'tiles': 2, 'blurred': 1, 'pen': 1, 'background': 0}
    """
    if measures is None:
        return {}
    notable = {
        "blurred": measures.sharpness < NOTABLE.min_sharpness,
        "pen": measures.pen_fraction > NOTABLE.max_pen_fraction,
        "background": measures.background_fraction > NOTABLE.max_background_fraction,
    }
    return {
        "tiles": len(measures.sharpness),
        **{name: int(np.count_nonzero(tiles)) for name, tiles in notable.items()},
    }

"""The columns of a feature file that tell good tiles from bad ones; `features.quality` measures them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

TileValues = Float32[np.ndarray, "tiles"]
UNKNOWN = -1.0
"""Value of a measure that was not taken: features of other programs, tiles of another version."""


class TileQuality(NamedTuple):
    """One value a tile; `UNKNOWN` where a measure was not taken."""

    tissue_fraction: TileValues
    """Share of the tile inside the tissue polygons, from the tile file."""
    sharpness: TileValues
    """How fine the detail is; see `features.quality.measure_tiles`."""
    pen_fraction: TileValues
    """Share of the tile in the colors of a pen."""
    background_fraction: TileValues
    """Share of the tile that is as bright as the glass."""


class TileMeasures(NamedTuple):
    """What the pixels of some tiles tell: the columns of `TileQuality` but the tissue's."""

    sharpness: TileValues
    pen_fraction: TileValues
    background_fraction: TileValues


def unknown_quality(tiles: int) -> TileQuality:
    """Return the columns of tiles that nobody measured."""
    return TileQuality(*(np.full(tiles, UNKNOWN, np.float32) for _ in TileQuality._fields))

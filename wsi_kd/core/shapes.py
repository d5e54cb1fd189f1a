"""Shapes as types. Axis names mean the same everywhere: bags, instances, features, classes, tiles."""

from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int8, Int64, UInt8

Coords: TypeAlias = Int64[np.ndarray, "tiles 2"]
"""Tile positions: x then y, top-left corner, level-0 pixels."""

Pixels: TypeAlias = UInt8[np.ndarray, "height width 3"]
"""RGB pixels of one region."""

TileBatch: TypeAlias = UInt8[np.ndarray, "tiles height width 3"]
"""RGB pixels of several tiles."""

FeatureArray: TypeAlias = Float[np.ndarray, "tiles features"] | UInt8[np.ndarray, "tiles features"]
"""Encoder output, one row a tile; uint8 are the tile's own pixels."""

TileLabels: TypeAlias = Int8[np.ndarray, "tiles"]
"""Truth per tile: 1 positive, 0 negative, -1 unknown."""

Mask: TypeAlias = Bool[np.ndarray, "height width"]
"""True where something is."""

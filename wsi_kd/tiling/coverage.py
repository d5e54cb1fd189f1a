"""Which share of each tile an area covers: exact polygon areas, fast for many tiles."""

import numpy as np
import shapely
from jaxtyping import Float64, Int64
from shapely.geometry.base import BaseGeometry

from wsi_kd.core.shapes import Coords

LEAF_TILES = 32
"""Groups up to this size are cut with the area tile by tile; larger ones are halved first."""

Fractions = Float64[np.ndarray, "tiles"]


def covered_fraction(coords: Coords, *, tile_level0_px: float, area: BaseGeometry) -> Fractions:
    """Return the share of each tile inside `area`: area(tile and area) / tile_level0_px^2, in [0, 1].

    Tiles are halved along their longer extent again and again, each half with its part of the area: whole
    groups inside or outside are settled at once, so the time goes with the outline, not with the number of
    tiles.

    Args:
        coords: top-left corners in level-0 pixels; tiles may overlap.
        tile_level0_px: edge of a tile in level-0 pixels.
        area: a valid polygon or multipolygon in level-0 pixels.
    """
    fractions = np.zeros(len(coords), np.float64)
    groups: list[tuple[Int64[np.ndarray, "n"], BaseGeometry]] = [(np.arange(len(coords)), area)]
    while groups:
        members, whole = groups.pop()
        if not len(members) or whole.is_empty:
            continue
        low, high = coords[members].min(axis=0), coords[members].max(axis=0)
        frame = shapely.box(*low, *(high + tile_level0_px))
        part = shapely.intersection(whole, frame)
        if part.area >= frame.area * (1 - 1e-12):
            fractions[members] = 1.0
        elif len(members) <= LEAF_TILES:
            fractions[members] = _cut(coords[members], tile_level0_px, part)
        else:
            axis = int(np.argmax(high - low))
            order = members[np.argsort(coords[members, axis], kind="stable")]
            groups += [(order[: len(order) // 2], part), (order[len(order) // 2 :], part)]
    return np.clip(fractions, 0.0, 1.0)


def _cut(coords: Coords, tile_level0_px: float, area: BaseGeometry) -> Fractions:
    x, y = coords[:, 0], coords[:, 1]
    tiles = shapely.box(x, y, x + tile_level0_px, y + tile_level0_px)
    return np.asarray(shapely.area(shapely.intersection(tiles, area)) / tile_level0_px**2, np.float64)

"""Tissue -> tile positions."""

from typing import NamedTuple

import numpy as np
import shapely
from jaxtyping import Float32

from wsi_kd.core.errors import BadInput
from wsi_kd.core.shapes import Coords, Mask
from wsi_kd.tiling.coverage import covered_fraction
from wsi_kd.tiling.spec import TileSpec

EDGE_LEVEL0_PX = 0.5
"""A tile may pass the slide's edge by this much: positions are whole pixels, tile edges are not."""
MAX_CELLS = 10**8


class TileGrid(NamedTuple):
    """Tiles in scan order (rows from the top, each from the left)."""

    coords: Coords
    tissue_fraction: Float32[np.ndarray, "tiles"]


def tile_grid(
    tissue: shapely.MultiPolygon,
    spec: TileSpec,
    *,
    level0_width_px: int,
    level0_height_px: int,
    min_tissue_fraction: float,
) -> TileGrid:
    """Lay a grid over the slide from level 0's corner and keep the tiles on tissue.

    Tile (column, row) starts at round(column x stride), round(row x stride), so positions do not drift;
    tiles lie inside the slide, and each must hold tissue of at least `min_tissue_fraction` of its area (0:
    any tissue at all).

    Args:
        tissue: valid polygons in level-0 pixels.
        spec: size and overlap of tiles.
        level0_width_px: the slide's width.
        level0_height_px: the slide's height.
        min_tissue_fraction: smallest share of tissue, in [0, 1].

    Raises:
        BadInput: for an overlap that leaves no step, or tiles so small that the grid cannot be held.
    """
    if not 0 <= spec.overlap_px < spec.tile_px:
        raise BadInput(
            f"tile.overlap_px is {spec.overlap_px}; expected 0 to {spec.tile_px - 1} (below tile_px)"
        )
    xs = _starts(spec, level0_width_px)
    ys = _starts(spec, level0_height_px)
    if len(xs) * len(ys) > MAX_CELLS:
        raise BadInput(
            f"a grid of {len(xs)} x {len(ys)} tiles is too large; raise tile.tile_px or tile.tile_mpp"
        )
    rows, columns = np.nonzero(_near_tissue(tissue, xs, ys, tile_level0_px=spec.tile_level0_px))
    coords = np.stack([xs[columns], ys[rows]], axis=1)
    fraction = covered_fraction(coords, tile_level0_px=spec.tile_level0_px, area=tissue)
    keep = (fraction > 0) & (fraction >= min_tissue_fraction - 1e-9)
    return TileGrid(coords[keep], fraction[keep].astype(np.float32))


def _starts(spec: TileSpec, length_level0_px: int) -> np.ndarray:
    room = length_level0_px - spec.tile_level0_px + EDGE_LEVEL0_PX
    count = max(0, int(room / spec.stride_level0_px) + 2)
    starts = np.round(np.arange(count) * spec.stride_level0_px).astype(np.int64)
    return starts[starts <= room]


def _near_tissue(
    tissue: shapely.MultiPolygon, xs: np.ndarray, ys: np.ndarray, *, tile_level0_px: float
) -> Mask:
    """Mark the cells that the bounding box of some piece of tissue touches."""
    near = np.zeros((len(ys), len(xs)), bool)
    for left, top, right, bottom in shapely.bounds(shapely.get_parts(tissue)):
        columns = slice(*np.searchsorted(xs, (left - tile_level0_px, right)))
        rows = slice(*np.searchsorted(ys, (top - tile_level0_px, bottom)))
        near[rows, columns] = True
    return near

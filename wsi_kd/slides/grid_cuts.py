"""How a region is cut out of a grid of stored tiles: which part of which tile goes where.

The cuts depend on where in a tile the region's corner lies, not on which tile that is: a regular grid of
requests needs a handful of them, worked out once.
"""

from functools import lru_cache
from typing import NamedTuple

from wsi_kd.slides.stored_tiles import StoredGrid

Part = tuple[slice, slice]
"""Rows, then columns of an array."""


class Cut(NamedTuple):
    """A part of one stored tile and its place in the region."""

    step: int
    """Index of the tile less that of the tile that holds the region's corner."""
    source: Part
    target: Part


@lru_cache(maxsize=4096)
def grid_cuts(
    edges: tuple[int, int], corner: tuple[int, int], shape: tuple[int, int], *, columns: int
) -> tuple[Cut, ...]:
    """Cut a region out of a grid; all pairs are rows, then columns.

    Args:
        edges: of a tile.
        corner: of the region, counted from that of the tile it lies in.
        shape: of the region.
        columns: tiles in a row of the grid.

    >>> [cut.source for cut in grid_cuts((8, 8), (0, 6), (8, 4), columns=5)]
    [(slice(0, 8, None), slice(6, 8, None)), (slice(0, 8, None), slice(0, 2, None))]
    """
    return tuple(
        Cut(row * columns + column, (y, x), (to_y, to_x))
        for row, y, to_y in _along(edges[0], corner[0], shape[0])
        for column, x, to_x in _along(edges[1], corner[1], shape[1])
    )


def cuts_inside(cuts: tuple[Cut, ...], grid: StoredGrid, *, row: int, column: int) -> tuple[Cut, ...]:
    """Keep what lies inside the level, where the region's corner is in the tile at `row`, `column`.

    Tiles at the right and lower edge are stored whole; what of them is outside the level is not slide.
    """
    kept = []
    down = right = -1
    for cut in cuts:
        right = right + 1 if cut.target[1].start else 0
        down += right == 0
        rows = _shortened(cut.source[0], cut.target[0], grid.height_px - (row + down) * grid.tile_height_px)
        columns = _shortened(
            cut.source[1], cut.target[1], grid.width_px - (column + right) * grid.tile_width_px
        )
        if row + down >= 0 and column + right >= 0 and rows and columns:
            kept.append(Cut(cut.step, (rows[0], columns[0]), (rows[1], columns[1])))
    return tuple(kept)


def _along(edge: int, corner: int, length: int) -> list[tuple[int, slice, slice]]:
    """Return, along one axis: which tile, from where to where of it, and where that goes."""
    pieces, done = [], 0
    while done < length:
        tile, start = divmod(corner + done, edge)
        step = min(edge - start, length - done)
        pieces.append((tile, slice(start, start + step), slice(done, done + step)))
        done += step
    return pieces


def _shortened(source: slice, target: slice, limit: int) -> tuple[slice, slice] | None:
    """Cut what of a tile lies beyond `limit`."""
    length = min(source.stop, limit) - source.start
    if length <= 0:
        return None
    return slice(source.start, source.start + length), slice(target.start, target.start + length)

"""DeepZoom over any `SlideReader`: a pyramid of halves of the slide's bounds, cut into small tiles.

Coordinate planes: tile (column, row) of a DeepZoom level; `zoom` pixels of a DeepZoom level; pixels of a
stored level; level-0 pixels. The geometry is that of `openslide.deepzoom` with `limit_bounds`. Scaling is
by area means over exact footprints, so that neighbors join without a seam; the last column and row of tiles
end where the bounds end, within a pixel or not, for that is where viewers draw them to.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

from wsi_kd.core.shapes import Pixels
from wsi_kd.slides.protocol import SlideReader
from wsi_kd.slides.pyramid import BLOCK_PX, nearest_finer, read_reduced

TILE_PX, OVERLAP_PX = 254, 1
"""Edge of a tile without its overlap; inner tiles have 256 pixels."""
MAX_TILE_READ_PX = 2**24
"""Pixels of a stored level that one tile may be made from: of a scan without overviews the coarse DeepZoom
levels would read the whole slide for each tile, so they are left out."""
UNSCALED_PX = 0.5
"""Stored pixels are shown as they are where scaling would move none of a tile's by more than this."""


class DeepZoom(NamedTuple):
    """The pyramid of one slide."""

    zoom_sizes: tuple[tuple[int, int], ...]
    """Width and height of every DeepZoom level in its own pixels, 1 x 1 first, the bounds last."""
    min_level: int
    """Coarsest level that is served."""

    @property
    def full_level(self) -> int:
        """The level whose pixels are level-0 pixels."""
        return len(self.zoom_sizes) - 1

    def downsample(self, level: int) -> int:
        """Level-0 pixels along a pixel of a DeepZoom level: 2^(full_level - level)."""
        return 1 << (self.full_level - level)

    def tiles(self, level: int) -> tuple[int, int]:
        """Columns and rows of a DeepZoom level."""
        width, height = self.zoom_sizes[level]
        return -(-width // TILE_PX), -(-height // TILE_PX)

    def has(self, level: int, *, column: int, row: int) -> bool:
        """Tell whether there is such a tile."""
        if not self.min_level <= level <= self.full_level:
            return False
        columns, rows = self.tiles(level)
        return 0 <= column < columns and 0 <= row < rows


class TileRead(NamedTuple):
    """What `SlideReader.read_region` is asked for, and how the tile comes of it."""

    corner: tuple[int, int]
    """x, y in level-0 pixels."""
    level: int
    """Of the slide."""
    size_px: tuple[int, int]
    """Width, height in pixels of that level."""
    scale: float
    """Pixels of that level along a pixel of the tile."""
    tile_px: tuple[int, int]
    """Width, height of the tile."""
    at_edge: bool
    """Of the last column or row: it is stretched to end where the bounds end."""


def deep_zoom(reader: SlideReader) -> DeepZoom:
    """Lay the pyramid over a slide's bounds: each level half of the next, rounded up, down to one pixel."""
    _, _, width, height = reader.bounds
    sizes = [(width, height)]
    while sizes[-1] != (1, 1):
        width, height = -(-width // 2), -(-height // 2)
        sizes.append((width, height))
    whole = DeepZoom(tuple(reversed(sizes)), min_level=0)
    too_large = [
        level for level in range(whole.full_level) if _largest_read(reader, whole, level) > MAX_TILE_READ_PX
    ]
    return whole._replace(min_level=max(too_large, default=-1) + 1)


def plan_tile(reader: SlideReader, zoom: DeepZoom, *, level: int, column: int, row: int) -> TileRead:
    """Say which pixels a tile is made from.

    Args:
        reader: the slide.
        zoom: its pyramid.
        level: DeepZoom level.
        column: of the tile.
        row: of the tile.
    """
    downsample = zoom.downsample(level)
    stored = nearest_finer(reader.level_downsamples, float(downsample))
    scale = downsample / reader.level_downsamples[stored]
    columns, rows = zoom.tiles(level)
    width, height = zoom.zoom_sizes[level]
    left, wide = _span(column, columns, length_px=width)
    top, high = _span(row, rows, length_px=height)
    if abs(scale - 1) * max(wide, high) < UNSCALED_PX:
        scale = 1.0
    bounds = reader.bounds
    limits = _bounds_in(reader, stored)
    return TileRead(
        corner=(bounds.x_level0_px + left * downsample, bounds.y_level0_px + top * downsample),
        level=stored,
        size_px=(
            _length(left, wide, scale=scale, limit=limits[0]),
            _length(top, high, scale=scale, limit=limits[1]),
        ),
        scale=scale,
        tile_px=(wide, high),
        at_edge=column == columns - 1 or row == rows - 1,
    )


def read_zoom_tile(reader: SlideReader, planned: TileRead) -> Pixels:
    """Read one tile, shape (height, width, 3) of `planned.tile_px`.

    Raises:
        SlideProblem: unreadable, when the region is damaged.
    """
    width, height = planned.tile_px
    if not planned.at_edge:
        return np.ascontiguousarray(_read(reader, planned, planned.scale)[:height, :width])
    large = max(planned.size_px) > BLOCK_PX
    pixels = _read(reader, planned, float(max(1, int(planned.scale / 2))) if large else 1.0)
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA))


def _read(reader: SlideReader, planned: TileRead, scale: float) -> Pixels:
    return read_reduced(
        reader, corner=planned.corner, level=planned.level, size_px=planned.size_px, scale=scale
    )


def _span(index: int, count: int, *, length_px: int) -> tuple[int, int]:
    """Return where a tile starts along one axis of its level and how long it is, overlaps included."""
    before, after = OVERLAP_PX * (index > 0), OVERLAP_PX * (index < count - 1)
    start = index * TILE_PX - before
    return start, min(TILE_PX, length_px - index * TILE_PX) + before + after


def _length(start: int, length: int, *, scale: float, limit: int) -> int:
    """Return how many stored pixels cover `length` zoom pixels from `start` on, cut at the bounds."""
    return max(1, min(math.ceil(length * scale - 1e-6), limit - math.ceil(start * scale - 1e-6)))


def _bounds_in(reader: SlideReader, stored: int) -> tuple[int, int]:
    """Return width and height of the bounds in pixels of a stored level, rounded up."""
    (whole_width, whole_height), (width, height) = reader.level_dimensions[0], reader.level_dimensions[stored]
    bounds = reader.bounds
    return (
        -(-width * bounds.width_level0_px // whole_width),
        -(-height * bounds.height_level0_px // whole_height),
    )


def _largest_read(reader: SlideReader, zoom: DeepZoom, level: int) -> int:
    columns, rows = zoom.tiles(level)
    inner = plan_tile(reader, zoom, level=level, column=min(1, columns - 1), row=min(1, rows - 1))
    return math.prod(inner.size_px)

"""Tiles put together from a TIFF's stored JPEG tiles, each decoded once, whatever grid is asked for."""

import math
import os
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from jaxtyping import Float, Int64, UInt8

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.shapes import Coords, Pixels, TileBatch
from wsi_kd.slides.decode_once import DecodeOnce
from wsi_kd.slides.grid_cuts import cuts_inside, grid_cuts
from wsi_kd.slides.level_position import WHOLE_PX, LevelPosition, interpolated, interpolates, level_position
from wsi_kd.slides.protocol import SlideReader
from wsi_kd.slides.pyramid import ReadPlan, resize_by
from wsi_kd.slides.reader_tiles import OwnReaders, read_each
from wsi_kd.slides.stored_tiles import CHANNELS, StoredGrid, StoredTiles, open_stored_tiles

_copy_into: Callable[..., object] = cv2.copyTo
"""A few percent faster than an assignment; its types leave out that there may be no mask."""
MAX_KEPT_BYTES = 2**29
"""Decoded tiles held at once. A row of a 100,000 px wide slide is 77 MB; most grids need one or two rows."""


class OffsetTiles:
    """Tiles of one plan from stored tiles; threads share what is decoded, forked children go on alone.

    Byte for byte what `read_tile` gives where the position is a whole pixel of its level, so at every one of
    level 0. Between pixels OpenSlide interpolates bilinearly, and so does this (they differ by 2 of 255 at
    most).
    """

    how = "stored JPEG tiles by offset"

    def __init__(self, reader: SlideReader, plan: ReadPlan, coords: Coords, *, stored: StoredTiles) -> None:
        """Take the stored tiles over; `close` closes them, not `reader`."""
        self._made_of = reader, plan, coords
        self._plan = plan
        self._downsample = reader.level_downsamples[plan.level]
        self._background = reader.background
        self._readers = OwnReaders(reader)
        self._stored = stored
        self._edges = stored.grid.edges
        self._between = interpolates(reader.format)
        self._plain = plan.footprint_px == plan.tile_px
        self._empty = frozenset(np.flatnonzero(stored.grid.sizes == 0).tolist())
        positions = coords / self._downsample
        self.uses = _uses(positions if self._between else np.rint(positions), plan, grid=stored.grid)
        self._decoded = self._own_decoded()

    def read(self, x_level0_px: int, y_level0_px: int, out: Pixels | None = None) -> Pixels:
        """Read the tile at a level-0 corner, into `out` (contiguous) where it is given.

        Raises:
            SlideProblem: unreadable, when a stored tile that it needs is damaged.
        """
        plan = self._plan
        if out is None:
            out = np.empty((plan.tile_px, plan.tile_px, CHANNELS), np.uint8)
        if self._downsample == 1:
            at = LevelPosition(x_level0_px, y_level0_px, 0.0, 0.0)
        else:
            at = level_position(x_level0_px, y_level0_px, self._downsample, between=self._between)
        between = at.x_part > 0 or at.y_part > 0
        plain = self._plain and not between
        region = out if plain else np.empty(_shape(plan, at), np.uint8)
        # Left of and above the slide OpenSlide rounds positions between pixels in a way of its own.
        if (between and min(at.x, at.y) < 0) or not self._fill(region, at.x, at.y):
            out[...] = self._readers.read_tile(x_level0_px, y_level0_px, plan)
        elif not plain:
            out[...] = _resampled(region, plan, at)
        return out

    def read_many(self, corners: Sequence[tuple[int, int]], out: TileBatch) -> dict[int, SlideProblem]:
        """Read the tiles at level-0 corners into `out`, each contiguous; return those that are damaged."""
        return read_each(self.read, corners, out)

    def close(self) -> None:
        """Close the file and the handles that were opened for threads."""
        self._stored.close()
        self._readers.close()

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as what it was made of: the process that unpickles opens the file anew."""
        return _reopen, self._made_of

    def _fill(self, region: Pixels, x: int, y: int) -> bool:
        """Fill a region of the level; False where a part is not stored: the reader knows what is there."""
        if self._process != os.getpid():  # a forked child: a thread of its parent may have held the locks
            self._decoded = self._own_decoded()
        grid, decoded = self._stored.grid, self._decoded
        height, width = region.shape[:2]
        (row, down), (column, right) = divmod(y, self._edges[0]), divmod(x, self._edges[1])
        first = row * grid.columns + column
        outside = x < 0 or y < 0 or x + width > grid.width_px or y + height > grid.height_px
        aligned = not (down or right or outside) and (height, width) == self._edges
        if aligned and first not in self._empty and decoded.is_last_use(first):
            decoded.used(first)
            self._stored.decode(first, region)
            return True
        cuts = grid_cuts(self._edges, (down, right), (height, width), columns=grid.columns)
        if outside:
            region[...] = self._background
            cuts = cuts_inside(cuts, grid, row=row, column=column)
        indices = [first + cut[0] for cut in cuts]
        if self._empty and not self._empty.isdisjoint(indices):
            decoded.skip(indices)
            return False
        done = 0
        try:
            for (_, source, target), index in zip(cuts, indices, strict=True):
                done += 1
                slot = decoded.take(index)
                try:
                    _copy_into(decoded.pixels(slot, index)[source], None, region[target])
                finally:
                    decoded.give_back(index, slot)
        except SlideProblem:
            decoded.skip(indices[done:])
            raise
        return True

    def _own_decoded(self) -> DecodeOnce:
        self._process = os.getpid()
        grid = self._stored.grid
        shape = (grid.tile_height_px, grid.tile_width_px, CHANNELS)
        max_kept = max(1, MAX_KEPT_BYTES // math.prod(shape))
        return DecodeOnce(self._stored.decode, self.uses, shape=shape, max_kept=max_kept)


def _reopen(reader: SlideReader, plan: ReadPlan, coords: Coords) -> OffsetTiles:
    return OffsetTiles(reader, plan, coords, stored=open_stored_tiles(reader, plan.level))


def _shape(plan: ReadPlan, at: LevelPosition) -> tuple[int, int, int]:
    return plan.read_px + (at.y_part > 0), plan.read_px + (at.x_part > 0), CHANNELS


def _resampled(region: Pixels, plan: ReadPlan, at: LevelPosition) -> UInt8[np.ndarray, "tile_px tile_px 3"]:
    """Shift by the parts of a pixel, then shrink to the tile exactly as `read_tile` does."""
    shifted = interpolated(region, at, width_px=plan.read_px, height_px=plan.read_px)
    return resize_by(shifted, plan.footprint_px / plan.tile_px)[: plan.tile_px, : plan.tile_px]


def _uses(
    positions: Float[np.ndarray, "tiles 2"], plan: ReadPlan, *, grid: StoredGrid
) -> Int64[np.ndarray, "stored"]:
    """Count how many of the tiles at `positions`, in pixels of the level, will need each stored tile."""
    uses = np.zeros(len(grid.sizes), np.int64)
    first = np.floor(positions + WHOLE_PX).astype(np.int64)
    size_px = plan.read_px + (positions - first > WHOLE_PX)
    edges, most = np.array([grid.tile_width_px, grid.tile_height_px]), np.array([grid.columns, grid.rows]) - 1
    low = np.maximum(first // edges, 0)
    high = np.minimum((first + size_px - 1) // edges, most)
    span = (high - low).max(axis=0, initial=-1) + 1
    for step in np.ndindex(*span.tolist()):
        column, row = (low + step).T
        touched = (column <= high[:, 0]) & (row <= high[:, 1])
        np.add.at(uses, row[touched] * grid.columns + column[touched], 1)
    return uses

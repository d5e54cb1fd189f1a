"""Tiles put together from a TIFF's stored JPEG tiles, each decoded once, whatever grid is asked for."""

import threading
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int64, UInt8

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.shapes import Coords, Pixels, TileBatch
from wsi_kd.slides.level_position import WHOLE_PX, LevelPosition, interpolated, interpolates, level_position
from wsi_kd.slides.protocol import SlideReader
from wsi_kd.slides.pyramid import ReadPlan, resize_by
from wsi_kd.slides.reader_tiles import OwnReaders
from wsi_kd.slides.stored_regions import StoredRegions
from wsi_kd.slides.stored_tiles import CHANNELS, StoredGrid, StoredTiles, open_stored_tiles


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
        self._readers = OwnReaders(reader)
        self._stored = stored
        self._between = interpolates(reader.format)
        self._plain = plan.footprint_px == plan.tile_px
        positions = coords / self._downsample
        self.uses = _uses(positions if self._between else np.rint(positions), plan, grid=stored.grid)
        self._regions = StoredRegions(stored, self.uses, background=reader.background)
        self._own = threading.local()

    def read(self, x_level0_px: int, y_level0_px: int, out: Pixels | None = None) -> Pixels:
        """Read the tile at a level-0 corner, into `out` (contiguous) where it is given.

        Raises:
            SlideProblem: unreadable, when a stored tile that it needs is damaged.
        """
        if out is None:
            out = np.empty((self._plan.tile_px, self._plan.tile_px, CHANNELS), np.uint8)
        for problem in self.read_many([(x_level0_px, y_level0_px)], out[None]).values():
            raise problem
        return out

    def read_many(self, corners: Sequence[tuple[int, int]], out: TileBatch) -> dict[int, SlideProblem]:
        """Read the tiles at level-0 corners into `out`, each contiguous; return those that are damaged.

        Args:
            corners: x, y of each; neighbors in a row, one after the other, are read fastest.
            out: one tile a corner.
        """
        places = [self._position(x, y) for x, y in corners]
        if self._plain and not any(at.x_part or at.y_part for at in places):
            missed = self._regions.fill([(at.x, at.y) for at in places], out)
            problems = {number: problem for number, problem in missed.items() if problem is not None}
            by_reader = [number for number, problem in missed.items() if problem is None]
        else:
            problems, by_reader = self._resample(places, out)
        for number in by_reader:
            try:
                out[number] = self._readers.read_tile(*corners[number], self._plan)
            except SlideProblem as problem:
                problems[number] = problem
        return problems

    def close(self) -> None:
        """Close the file and the handles that were opened for threads."""
        self._stored.close()
        self._readers.close()

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as what it was made of: the process that unpickles opens the file anew."""
        return _reopen, self._made_of

    def _position(self, x_level0_px: int, y_level0_px: int) -> LevelPosition:
        if self._downsample == 1:
            return LevelPosition(x_level0_px, y_level0_px, 0.0, 0.0)
        return level_position(x_level0_px, y_level0_px, self._downsample, between=self._between)

    def _resample(
        self, places: Sequence[LevelPosition], out: TileBatch
    ) -> tuple[dict[int, SlideProblem], list[int]]:
        """Read one tile after the other at the level's own pixels, and resample it while it is in the cache.

        Returns the damaged ones, and those that are the reader's: a part of them was never stored, or they
        lie left of or above the slide, where OpenSlide rounds positions between pixels in a way of its own.
        """
        problems: dict[int, SlideProblem] = {}
        by_reader = []
        for number, at in enumerate(places):
            region = self._region(self._plan.read_px + (at.y_part > 0), self._plan.read_px + (at.x_part > 0))
            outside = (at.x_part > 0 or at.y_part > 0) and min(at.x, at.y) < 0
            missed = {0: None} if outside else self._regions.fill([(at.x, at.y)], region[None])
            if not missed:
                out[number] = _resampled(region, self._plan, at)
            elif missed[0] is None:
                by_reader.append(number)
            else:
                problems[number] = missed[0]
        return problems, by_reader

    def _region(self, height_px: int, width_px: int) -> Pixels:
        """Return this thread's array for a region: fresh pages would cost a fault for every 4 KiB."""
        size = height_px * width_px * CHANNELS
        room: UInt8[np.ndarray, "bytes"] | None = getattr(self._own, "room", None)
        if room is None or len(room) < size:
            room = self._own.room = np.empty((self._plan.read_px + 1) ** 2 * CHANNELS, np.uint8)
        return room[:size].reshape(height_px, width_px, CHANNELS)


def _reopen(reader: SlideReader, plan: ReadPlan, coords: Coords) -> OffsetTiles:
    return OffsetTiles(reader, plan, coords, stored=open_stored_tiles(reader, plan.level))


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

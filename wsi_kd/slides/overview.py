"""The slide at the resolution of its mask, read in runs of rows: of a large one few rows are held at a time.

Up to `HELD_PX` pixels stay in memory from the first look on; the rest are read again with every look, which
costs what reading their level costs. Where only a much finer level is there, that is dear, and all are held.
"""

import math
from collections import OrderedDict
from typing import NamedTuple, Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Float32, Float64

from wsi_kd.core.errors import SlideProblem, WsiKdError
from wsi_kd.core.shapes import Pixels
from wsi_kd.slides.icc import Color, Recolor, recolor
from wsi_kd.slides.openslide_reader import OpenSlideReader
from wsi_kd.slides.protocol import SlideReader, unreadable
from wsi_kd.slides.pyramid import BLOCK_PX, OverviewPlan, plan_overview, read_reduced, read_thumbnail

SMALL_PX = 2**20
"""Pixels of the level up to which an overview is read at once."""
HELD_PX = 2**22
"""Pixels of an overview that are held: 12 MiB."""
BAND_ROWS = 128
"""Rows of the level that are read at a time, or of what is left of them by averaging whole squares."""
DEAR_SCALE = 2.5
"""Edge of an overview's pixel in pixels of the level it is read from, beyond which it is read once."""
DECODED_BYTES = 12 * 2**20
"""What OpenSlide keeps of decoded tiles: a row of 256 px over the widest slide glass at 8 um/px."""
SHRUNK_ROWS = 32
"""Rows that are averaged by one product."""
HALF = 0.5


@runtime_checkable
class PixelRows(Protocol):
    """RGB pixels that are asked for in runs of rows: an array of them, or an overview read as asked."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width, 3."""
        ...

    def __getitem__(self, rows: slice, /) -> Pixels:
        """Return some rows.

        Raises:
            SlideProblem: unreadable.
        """
        ...


class Overview(NamedTuple):
    """A slide's bounds; pixel (row, column) starts at origin + (column, row) x level0_px_per_px."""

    pixels: PixelRows
    level0_px_per_px: float
    origin: tuple[int, int]


def open_overview(
    reader: SlideReader, *, slide_mpp: float, overview_mpp: float, color: Color = "as_stored"
) -> Overview:
    """Look at the slide's bounds at `overview_mpp`; the reader must stay open as long as rows are asked for.

    Resolution, pixels and limits are those of `pyramid.read_thumbnail`.

    Raises:
        SlideProblem: unreadable, now or when rows are asked for.
    """
    plan = plan_overview(reader, slide_mpp=slide_mpp, mpp=overview_mpp)
    if plan.width_px * plan.height_px <= SMALL_PX:
        return Overview(*read_thumbnail(reader, slide_mpp=slide_mpp, thumbnail_mpp=overview_mpp, color=color))
    if isinstance(reader, OpenSlideReader):
        reader.bound_cache(DECODED_BYTES)
    pixels = _Bands(reader, plan, recolor(reader, color))
    return Overview(pixels, plan.level0_px_per_px, plan.origin)


class _Bands:
    """Pixels of an overview, read in bands of rows as they are asked for."""

    def __init__(self, reader: SlideReader, plan: OverviewPlan, change: Recolor | None) -> None:
        self._reader, self._plan, self._change = reader, plan, change
        is_dear = plan.scale > DEAR_SCALE
        self._factor = min(int(plan.scale), BLOCK_PX) if is_dear else 1
        self._rest = plan.scale / self._factor
        size_px = (plan.width_px, plan.height_px)
        self._stored = (-(-plan.width_px // self._factor), -(-plan.height_px // self._factor))
        width, height = (max(1, round(length * (1 / plan.scale))) for length in size_px)
        self.shape = (height, width, 3)
        self._rows = max(1, int(BAND_ROWS / self._rest))
        all_held = is_dear or height * width <= HELD_PX
        self._held_bands = height if all_held else HELD_PX // (width * self._rows)
        self._no_rows = np.empty((0, width, 3), np.uint8)
        self._held = dict[int, Pixels]()
        self._last = OrderedDict[int, Pixels]()

    def __getitem__(self, rows: slice, /) -> Pixels:
        first, end, _ = rows.indices(self.shape[0])
        bands = range(first // self._rows, -(-end // self._rows))
        parts = [
            self._band(index)[max(first - index * self._rows, 0) : end - index * self._rows]
            for index in bands
        ]
        return parts[0] if len(parts) == 1 else np.concatenate([self._no_rows, *parts])

    def _band(self, index: int) -> Pixels:
        """Return a band: one that is held, one of the last two, which neighboring runs share, or read it."""
        kept = self._held if index < self._held_bands else self._last
        if index not in kept:
            if kept is self._last and len(kept) > 1:
                self._last.popitem(last=False)
            kept[index] = self._read(index)
        return kept[index]

    def _read(self, index: int) -> Pixels:
        first = index * self._rows
        try:
            pixels = self._shrunk(first, min(first + self._rows, self.shape[0]))
        except (WsiKdError, MemoryError):
            raise
        except Exception as error:
            raise reading_failed(error) from None
        return pixels if self._change is None else self._change(pixels)

    def _shrunk(self, first: int, end: int) -> Pixels:
        """Read the pixels of the level that some rows cover, and average them."""
        if self._rest == 1.0:
            return np.ascontiguousarray(self._read_stored(first, end)[:, : self.shape[1]])
        top = int(first * self._rest)
        stored = self._read_stored(top, min(self._stored[1], math.ceil(end * self._rest)))
        pixels = np.empty((end - first, *self.shape[1:]), np.uint8)
        for start in range(first, end, SHRUNK_ROWS):
            edges = np.arange(start, min(start + SHRUNK_ROWS, end) + 1) * self._rest - top
            some = stored[int(edges[0]) : math.ceil(edges[-1])]
            weights = _row_weights(edges - int(edges[0]), len(some))
            means = weights @ _narrowed(some, self._rest, self.shape[1]).reshape(len(some), -1)
            pixels[start - first :][: len(means)] = (means + np.float32(HALF)).reshape(-1, *self.shape[1:])
        return pixels

    def _read_stored(self, first: int, end: int) -> Pixels:
        """Read rows of the level, averaged over squares of `_factor` pixels."""
        plan, factor = self._plan, self._factor
        x, y = plan.origin
        downsample = self._reader.level_downsamples[plan.level]
        return read_reduced(
            self._reader,
            corner=(x, y + round(first * factor * downsample)),
            level=plan.level,
            size_px=(self._stored[0] * factor, (end - first) * factor),
            scale=float(factor),
        )


def reading_failed(error: Exception) -> SlideProblem:
    """Build the problem of a slide whose reader raised what it should not."""
    return unreadable(f"reading failed ({type(error).__name__}: {error}); export the slide again"[:300])


def _row_weights(edges: Float64[np.ndarray, "edges"], stored: int) -> Float32[np.ndarray, "rows stored"]:
    """Return the share of each of the stored rows in the rows between neighboring edges."""
    low, high = edges[:-1, None], edges[1:, None]
    rows = np.arange(stored)
    covered = np.clip(np.minimum(high, rows + 1) - np.maximum(low, rows), 0, None)
    return np.asarray(covered / covered.sum(axis=1, keepdims=True), np.float32)


def _narrowed(pixels: Pixels, scale: float, width: int) -> Float32[np.ndarray, "rows narrow 3"]:
    """Average along rows alone; columns are doubled where OpenCV would leave them as they are, or enlarge."""
    if scale < 1 or width == pixels.shape[1]:
        pixels, scale = pixels.repeat(2, axis=1), 2 * scale
    wide = pixels.astype(np.float32)
    return np.asarray(cv2.resize(wide, None, fx=1 / scale, fy=1.0, interpolation=cv2.INTER_AREA)[:, :width])

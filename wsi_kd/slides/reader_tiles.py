"""Tiles through a slide's reader: the way for every format, and for all that is no JPEG tile of a TIFF."""

import copy
import threading
from collections.abc import Callable, Sequence

from wsi_kd.core.errors import SlideProblem, WsiKdError
from wsi_kd.core.shapes import Pixels, TileBatch
from wsi_kd.slides.protocol import SlideReader, unreadable
from wsi_kd.slides.pyramid import ReadPlan, read_tile

MAX_REASON = 300


def read_each(
    read: Callable[[int, int, Pixels], object], corners: Sequence[tuple[int, int]], out: TileBatch
) -> dict[int, SlideProblem]:
    """Read tiles one after the other into `out`; return those that are damaged by their place in it."""
    problems = {}
    for number, ((x, y), pixels) in enumerate(zip(corners, out, strict=True)):
        try:
            read(x, y, pixels)
        except SlideProblem as problem:
            problems[number] = problem
    return problems


class OwnReaders:
    """A handle of a slide for every thread that asks: a reader copies itself by opening its file anew."""

    def __init__(self, reader: SlideReader) -> None:
        """Give `reader` itself to the thread that calls, and copies of it to others."""
        self._first = reader
        self._own = threading.local()
        self._own.reader = reader
        self._opened: list[SlideReader] = []

    def read_tile(self, x_level0_px: int, y_level0_px: int, plan: ReadPlan) -> Pixels:
        """Read one tile on this thread's handle.

        Raises:
            SlideProblem: unreadable, when the region is damaged, whatever the reader raises then.
        """
        try:
            return read_tile(self._mine(), x_level0_px=x_level0_px, y_level0_px=y_level0_px, plan=plan)
        except (WsiKdError, MemoryError):
            raise
        except Exception as error:  # a damaged slide may make its reader raise anything
            raise unreadable(f"reading failed ({type(error).__name__}: {error})"[:MAX_REASON]) from None

    def close(self) -> None:
        """Close the copies; the reader itself stays open."""
        while self._opened:
            self._opened.pop().close()

    def _mine(self) -> SlideReader:
        reader: SlideReader | None = getattr(self._own, "reader", None)
        if reader is None:
            reader = self._own.reader = copy.copy(self._first)
            self._opened.append(reader)
        return reader


class ReaderTiles:
    """Tiles of one plan by `read_tile`."""

    def __init__(self, reader: SlideReader, plan: ReadPlan, *, how: str) -> None:
        self.how = how
        self._made_of = reader, plan, how
        self._plan = plan
        self._readers = OwnReaders(reader)

    def read(self, x_level0_px: int, y_level0_px: int, out: Pixels | None = None) -> Pixels:
        """Read the tile at a level-0 corner, into `out` where it is given.

        Raises:
            SlideProblem: unreadable, when the tile is damaged.
        """
        pixels = self._readers.read_tile(x_level0_px, y_level0_px, self._plan)
        if out is None:
            return pixels
        out[...] = pixels
        return out

    def read_many(self, corners: Sequence[tuple[int, int]], out: TileBatch) -> dict[int, SlideProblem]:
        """Read the tiles at level-0 corners into `out`; return those that are damaged."""
        return read_each(self.read, corners, out)

    def close(self) -> None:
        """Close the handles that were opened for threads."""
        self._readers.close()

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as what it was made of: the process that unpickles opens the file anew."""
        return _reopen, self._made_of


def _reopen(reader: SlideReader, plan: ReadPlan, how: str) -> ReaderTiles:
    return ReaderTiles(reader, plan, how=how)

"""Tiles of one slide by the fastest way that its file allows, the same pixels by every way.

`open_tile_source` reads stored JPEG tiles by their offsets and decodes each once, whatever grid is asked for;
what does not lie in the file as one plain grid of JPEG tiles is read through the slide's reader. A source
belongs to all threads of a process: a thread that reads through the reader has a handle of its own.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.shapes import Coords, Pixels, TileBatch
from wsi_kd.slides.offset_tiles import OffsetTiles
from wsi_kd.slides.protocol import SlideReader
from wsi_kd.slides.pyramid import BLOCK_PX, ReadPlan
from wsi_kd.slides.reader_tiles import ReaderTiles
from wsi_kd.slides.stored_check import why_not_alike
from wsi_kd.slides.stored_tiles import NoStoredTiles, open_stored_tiles


@runtime_checkable
class TileSource(Protocol):
    """Reads tiles of one plan; threads may share it, and it may be pickled."""

    how: str
    """How tiles are read, and if not by offset, why."""

    def read(self, x_level0_px: int, y_level0_px: int, out: Pixels | None = None) -> Pixels:
        """Read the tile at a level-0 corner, shape (tile_px, tile_px, 3), into `out` where it is given.

        Raises:
            SlideProblem: unreadable, when the tile is damaged; other tiles can still be read.
        """
        ...

    def read_many(self, corners: Sequence[tuple[int, int]], out: TileBatch) -> dict[int, SlideProblem]:
        """Read the tiles at level-0 corners into `out`, each contiguous.

        Neighbors in a row, one after the other, are read fastest, and a tile for which another thread is
        decoding comes last.

        Returns:
            Those that are damaged, by their place in `corners`; their pixels are undefined.
        """
        ...

    def close(self) -> None:
        """Release what the source opened; the reader it was made of stays open."""
        ...


def open_tile_source(reader: SlideReader, plan: ReadPlan, coords: Coords) -> TileSource:
    """Choose how tiles are read: by offset where a few prove equal to the reader's, else by the reader.

    Args:
        reader: the slide; it must outlive the source.
        plan: which level is read, and how it becomes a tile.
        coords: the tiles that will be read, each once and best row by row; others may be read too.
    """
    try:
        return _by_offset(reader, plan, coords)
    except NoStoredTiles as reason:
        return ReaderTiles(reader, plan, how=f"{reader.format}: {reason}")


def _by_offset(reader: SlideReader, plan: ReadPlan, coords: Coords) -> OffsetTiles:
    if plan.read_px > BLOCK_PX:
        raise NoStoredTiles(
            f"a tile covers {plan.read_px} px of level {plan.level}, which are read in blocks"
        )
    stored = open_stored_tiles(reader, plan.level)
    source = OffsetTiles(reader, plan, coords, stored=stored)
    if different := why_not_alike(reader, plan.level, stored, uses=source.uses):
        source.close()
        raise NoStoredTiles(different)
    return source

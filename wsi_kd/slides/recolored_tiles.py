"""Tiles of a source in other colors than it stores them in."""

from collections.abc import Sequence

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.shapes import Pixels, TileBatch
from wsi_kd.slides.icc import Color, Recolor, recolor
from wsi_kd.slides.protocol import SlideReader
from wsi_kd.slides.tile_source import TileSource


def recolored(source: TileSource, reader: SlideReader, color: Color) -> TileSource:
    """Return a source of the same tiles in the chosen colors: `source` itself where nothing changes.

    Raises:
        SlideProblem: unreadable, when the slide's color profile is damaged or describes no RGB pixels.
    """
    change = recolor(reader, color)
    return source if change is None else RecoloredTiles(source, change)


class RecoloredTiles:
    """A `TileSource` over another one; closing it closes that."""

    def __init__(self, source: TileSource, change: Recolor) -> None:
        self._source = source
        self._change = change
        self.how = f"{source.how}; to sRGB"

    def read(self, x_level0_px: int, y_level0_px: int, out: Pixels | None = None) -> Pixels:
        """Read one tile, into `out` where it is given.

        Raises:
            SlideProblem: unreadable, when the tile is damaged; other tiles can still be read.
        """
        pixels = self._change(self._source.read(x_level0_px, y_level0_px))
        if out is None:
            return pixels
        out[...] = pixels
        return out

    def read_many(self, corners: Sequence[tuple[int, int]], out: TileBatch) -> dict[int, SlideProblem]:
        """Read the tiles at level-0 corners into `out`; return those that are damaged."""
        problems = self._source.read_many(corners, out)
        for number, pixels in enumerate(out):
            if number not in problems:
                pixels[...] = self._change(pixels)
        return problems

    def close(self) -> None:
        """Close the source that this one stands on."""
        self._source.close()

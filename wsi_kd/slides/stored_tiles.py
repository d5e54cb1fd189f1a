"""The JPEG tiles of one level as a TIFF stores them: where they lie, and each decoded by itself.

OpenSlide spends most of its time on carrying pixels, not on JPEG; a tile that is read at its offset and
decoded into place costs a fifth. What is not plain (other compressions, planes, levels that are not one grid
of tiles) is refused with a reason, and then the slide's reader reads it.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
import tifffile
from jaxtyping import Int64

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.shapes import Pixels
from wsi_kd.slides.jpeg_stream import JpegStreams
from wsi_kd.slides.ledger import LEDGER
from wsi_kd.slides.protocol import SlideReader, unreadable
from wsi_kd.slides.tiff_layout import pages_of

ONE_GRID = (
    *("openslide/aperio", "openslide/argos", "openslide/generic-tiff", "openslide/huron"),
    *("openslide/philips", "tiff/"),
)
"""Formats whose levels are one grid of tiles without overlap; others (Leica, Ventana, Trestle) shift them."""
PADDED = "openslide/philips"
BITS = 8
CHANNELS = 3
CHECKED_EVERY = 16
"""Reads from one look at whether the file was written to until the next; damage makes it look at once."""
MAX_STORED_BYTES = 2**26
"""A tile that claims more is damaged: 64 MiB of JPEG for one tile."""


class NoStoredTiles(Exception):
    """The level's tiles cannot be read by offset; the reason is one line."""


class StoredGrid(NamedTuple):
    """Where the tiles of one level lie in the file, row by row."""

    width_px: int
    height_px: int
    tile_width_px: int
    tile_height_px: int
    columns: int
    rows: int
    offsets: Int64[np.ndarray, "stored"]
    sizes: Int64[np.ndarray, "stored"]
    """Bytes of every tile; 0 where nothing is stored."""

    @property
    def edges(self) -> tuple[int, int]:
        """Height and width of a tile."""
        return self.tile_height_px, self.tile_width_px


class StoredTiles:
    """One level's tiles, read through one descriptor; threads and forked children may share it."""

    def __init__(self, path: Path, descriptor: int, *, grid: StoredGrid, streams: JpegStreams) -> None:
        """Take over an open descriptor of the file at `path`, which `close` closes."""
        self._path = path
        self.grid = grid
        self._streams = streams
        self._shape = (grid.tile_height_px, grid.tile_width_px, CHANNELS)
        self._descriptor = descriptor
        self._opened = _state(descriptor)
        self._reads = 0
        self._changed = False

    def decode(self, index: int, out: Pixels | None = None) -> Pixels:
        """Read and decode the stored tile `index`, into `out` (contiguous, of the tile's shape) if given.

        Raises:
            SlideProblem: unreadable, when its bytes are damaged; what a decoder would only warn of counts.
        """
        try:
            with LEDGER.reading(self._path):
                pixels: Pixels = simplejpeg.decode_jpeg(self.stream(index), "RGB", buffer=out)
            if pixels.shape != self._shape:
                raise ValueError(f"{pixels.shape[1]}x{pixels.shape[0]} px stored")
        except (ValueError, OSError) as error:
            raise self._damaged(index, error) from None
        return pixels

    def stream(self, index: int) -> bytes:
        """Return the stored tile `index` as a JPEG stream of its own.

        Raises:
            ValueError: its bytes are not all there, do not start as a JPEG, or were changed meanwhile.
            OSError: they cannot be read.
        """
        self._reads += 1
        if self._changed or self._reads % CHECKED_EVERY == 0:
            self._check_unchanged()
        offset, size = int(self.grid.offsets[index]), int(self.grid.sizes[index])
        stored = os.pread(self._descriptor, size, offset)
        if len(stored) < size:
            raise ValueError(f"{len(stored)} of its {size} bytes are there")
        return self._streams.complete(stored)

    def close(self) -> None:
        """Release the file; closing twice is harmless."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _check_unchanged(self) -> None:
        self._changed = self._changed or _state(self._descriptor) != self._opened
        if self._changed:
            raise ValueError("the file was changed while it was read; run this slide again")

    def _damaged(self, index: int, error: Exception) -> SlideProblem:
        try:
            self._check_unchanged()
        except (ValueError, OSError) as change:
            error = change
        row, column = divmod(index, self.grid.columns)
        size = f"{self.grid.tile_width_px}x{self.grid.tile_height_px}"
        return unreadable(f"damaged stored tile at column {column}, row {row} ({size} px): {error}")


def _state(descriptor: int) -> tuple[int, int]:
    """Return what changes when an open file is written to."""
    found = os.fstat(descriptor)
    return found.st_size, found.st_mtime_ns


def open_stored_tiles(reader: SlideReader, level: int) -> StoredTiles:
    """Find the stored tiles of a level.

    Raises:
        NoStoredTiles: the level is not one grid of JPEG tiles, or not of a TIFF.
    """
    if not reader.format.startswith(ONE_GRID):
        raise NoStoredTiles(f"{reader.format} does not store a level as one plain grid of tiles")
    try:
        with (
            LEDGER.reading(reader.path),
            reader.path.open("rb") as file,
            tifffile.TiffFile(file) as tiff,
        ):
            page = _page_of(tiff, reader, level)
            grid, streams = _grid(page), _streams(page, reader.format)
            return StoredTiles(reader.path, os.dup(file.fileno()), grid=grid, streams=streams)
    except NoStoredTiles:
        raise
    except Exception as error:  # a header that tifffile stumbles over may still suit OpenSlide
        raise NoStoredTiles(
            f"tifffile cannot read its header ({type(error).__name__}: {error})"[:200]
        ) from None


def _page_of(tiff: tifffile.TiffFile, reader: SlideReader, level: int) -> Any:
    """Return the only tiled page of the level's size; Philips pads its pages, there the order tells."""
    pages = [page for top in pages_of(tiff) for page in (top, *(top.pages or ()))]
    tiled = [page for page in pages if page.is_tiled]
    wanted = reader.level_dimensions[level]
    if reader.format == PADDED and len(tiled) == len(reader.level_dimensions):
        return tiled[level]
    fitting = [page for page in tiled if (page.imagewidth, page.imagelength) == wanted]
    if len(fitting) != 1:
        raise NoStoredTiles(f"{len(fitting)} tiled pages of {wanted[0]}x{wanted[1]} px; expected one")
    return fitting[0]


def _grid(page: Any) -> StoredGrid:
    _require_plain(page)
    columns = -(-page.imagewidth // page.tilewidth)
    rows = -(-page.imagelength // page.tilelength)
    offsets = np.asarray(page.dataoffsets, np.int64)
    sizes = np.asarray(page.databytecounts, np.int64)
    if not len(offsets) == len(sizes) == columns * rows:
        raise NoStoredTiles(f"{len(offsets)} offsets, {len(sizes)} sizes for {columns}x{rows} tiles")
    if sizes.max(initial=0) > MAX_STORED_BYTES:
        raise NoStoredTiles(f"a tile of {sizes.max()} bytes")
    return StoredGrid(
        page.imagewidth, page.imagelength, page.tilewidth, page.tilelength, columns, rows, offsets, sizes
    )


def _require_plain(page: Any) -> None:
    checks = {
        "compression": (int(page.compression), {int(tifffile.COMPRESSION.JPEG)}),
        "photometric": (
            int(page.photometric),
            {int(tifffile.PHOTOMETRIC.RGB), int(tifffile.PHOTOMETRIC.YCBCR)},
        ),
        "planes": (int(page.planarconfig), {int(tifffile.PLANARCONFIG.CONTIG)}),
        "channels": (page.samplesperpixel, {CHANNELS}),
        "bits": (page.bitspersample, {BITS}),
        "depth": (page.imagedepth * page.tiledepth, {1}),
        "orientation": (int(page.tags.valueof("Orientation", 1)), {1}),
    }
    for name, (found, known) in checks.items():
        if found not in known:
            raise NoStoredTiles(f"{name} {found}; expected {' or '.join(map(str, sorted(known)))}")


def _streams(page: Any, slide_format: str) -> JpegStreams:
    """Take the photometric tag's word for the colors; OME-TIFFs call YCbCr RGB, and a JFIF marker tells."""
    rgb = page.photometric == tifffile.PHOTOMETRIC.RGB
    if rgb and page.is_jfif and not slide_format.startswith("openslide/"):
        rgb = False
    return JpegStreams(page.jpegtables or b"", "rgb" if rgb else "ycbcr")

"""What a header declares, weighed before a library believes it and asks for the memory, or dies of it."""

import struct
from configparser import ConfigParser
from pathlib import Path
from typing import Final

from tifffile import TiffFile, TiffPage

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.slides.protocol import unreadable
from wsi_kd.slides.samples import RGBA
from wsi_kd.slides.tiff_layout import pages_of
from wsi_kd.slides.tiff_pages import MAX_SEGMENT_BYTES

MAX_MIRAX_IMAGES: Final = 2**24
"""Camera images of one MIRAX slide; the largest slides have a few hundred thousand."""


_NGR_HEADER: Final = struct.Struct("<4x3i")
"""Of a raw image: width, height, width of a column."""
_NGR_PIECE_ROWS: Final = 64
_NGR_PIXEL_BYTES: Final = 6
MAX_DESCRIPTION_BYTES: Final = 16 << 20
"""OME-XML of a whole plate is smaller."""


def refuse_vast_tiles(path: Path) -> None:
    """Refuse a TIFF with a tile that is vast: decoded, or by the bytes that it claims to be stored in.

    OpenSlide allocates both without a look at the file's size, and its process ends where it cannot. A vast
    description is refused too: all that look for the resolution would search it. Costs the reading of the
    directories, a few milliseconds.

    Raises:
        SlideProblem: unreadable; reader_crashed where reading the directories takes more memory than there is
            (tifffile reads as much as the tile list of an NDPI file says, be it beyond the file's end).
    """
    file_bytes = path.stat().st_size
    try:
        with TiffFile(path) as tiff:
            for page in pages_of(tiff):
                for one in (page, *(page.pages or ())):
                    _refuse_vast(one.aspage(), file_bytes=file_bytes)
    except SlideProblem:
        raise
    except MemoryError:
        reason = "reading its directory takes more memory than there is; copy or export it again"
        raise SlideProblem(SlideStatus.READER_CRASHED, reason) from None
    except Exception:  # a directory that tifffile stumbles over is OpenSlide's to judge
        return


def _refuse_vast(page: TiffPage, *, file_bytes: int) -> None:
    described = page.tags.get("ImageDescription")
    if described is not None and described.count > MAX_DESCRIPTION_BYTES:
        raise unreadable(f"its description has {described.count} bytes; export the slide again")
    if not page.is_tiled:
        return
    width, height = int(page.tilewidth), int(page.tilelength)
    if width * height * RGBA > MAX_SEGMENT_BYTES:
        raise unreadable(
            f"its directory declares tiles of {width}x{height} px; write it in smaller ones "
            "(vips tiffsave in.tif out.tif --tile --pyramid --compression jpeg --bigtiff)"
        )
    claimed = max(map(int, page.databytecounts), default=0)
    if claimed > file_bytes:
        raise unreadable(
            f"a tile claims {claimed} bytes, the whole file has {file_bytes}; copy or export it again"
        )


def refuse_endless_vms(columns: int, rows: int, *, images: int) -> None:
    """Refuse a VMS index that declares more images than it names; OpenSlide would make a list of all.

    Raises:
        SlideProblem: unreadable.
    """
    if columns * rows > images:
        raise unreadable(f"its index declares {columns}x{rows} images and names {images}; copy it again")


def refuse_vast_raw(path: Path, *, name: str) -> None:
    """Refuse a raw image of VMU (NGR) that declares columns wider than OpenSlide can hold, or than the file.

    A piece that OpenSlide reads at once has the width of a column, 64 rows and three colors of 16 bits.

    Raises:
        SlideProblem: unreadable.
    """
    with path.open("rb") as handle:
        header = handle.read(_NGR_HEADER.size)
    if len(header) < _NGR_HEADER.size:
        return  # OpenSlide tells
    width, height, column = _NGR_HEADER.unpack(header)
    rows = min(height, _NGR_PIECE_ROWS)
    if column > 0 and rows > 0 and column * rows * _NGR_PIXEL_BYTES > path.stat().st_size:
        raise unreadable(
            f"{name} declares {width}x{height} px in columns of {column} px and holds less; copy it again"
        )


def refuse_endless_mirax(index: ConfigParser, *, name: str) -> None:
    """Refuse a MIRAX index that declares more images than any scanner takes; OpenSlide would make a list.

    Raises:
        SlideProblem: unreadable.
    """
    try:
        images = [index.getint("GENERAL", f"IMAGENUMBER_{axis}") for axis in "XY"]
    except Exception:  # absent or no number: OpenSlide tells
        return
    if images[0] * images[1] > MAX_MIRAX_IMAGES:
        raise unreadable(f"{name} declares {images[0]}x{images[1]} images; copy the folder again")

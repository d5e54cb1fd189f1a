"""What a header declares, weighed before a library believes it and asks for the memory, or dies of it."""

from configparser import ConfigParser
from pathlib import Path
from typing import Final

from tifffile import TiffFile, TiffPage

from wsi_kd.core.errors import SlideProblem
from wsi_kd.slides.protocol import unreadable
from wsi_kd.slides.samples import RGBA
from wsi_kd.slides.tiff_layout import pages_of
from wsi_kd.slides.tiff_pages import MAX_SEGMENT_BYTES

MAX_MIRAX_IMAGES: Final = 2**24
"""Camera images of one MIRAX slide; the largest slides have a few hundred thousand."""


MAX_DESCRIPTION_BYTES: Final = 16 << 20
"""OME-XML of a whole plate is smaller."""


def refuse_vast_tiles(path: Path) -> None:
    """Refuse a TIFF with a tile that is vast: decoded, or by the bytes that it claims to be stored in.

    OpenSlide allocates both without a look at the file's size, and its process ends where it cannot. A vast
    description is refused too: all that look for the resolution would search it. Costs the reading of the
    directories, a few milliseconds.

    Raises:
        SlideProblem: unreadable.
    """
    file_bytes = path.stat().st_size
    try:
        with TiffFile(path) as tiff:
            for page in pages_of(tiff):
                for one in (page, *(page.pages or ())):
                    _refuse_vast(one.aspage(), file_bytes=file_bytes)
    except (SlideProblem, MemoryError):
        raise
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

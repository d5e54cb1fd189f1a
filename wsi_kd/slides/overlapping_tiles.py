"""TIFF slides whose tiles overlap and that OpenSlide does not know: page by page they would lie wrong."""

import re
from pathlib import Path
from typing import Final

from tifffile import TiffFile, TiffPage

from wsi_kd.core.errors import SlideProblem
from wsi_kd.slides.protocol import unreadable
from wsi_kd.slides.tiff_layout import pages_of

_VENTANA_LEVEL: Final = re.compile(r"level=\d+ mag=")
_TRESTLE_SOFTWARE: Final = "MedScan"


def refuse_overlapping_tiles(path: Path) -> None:
    """Refuse a TIFF that a Ventana or Trestle scanner wrote and OpenSlide does not take for one.

    Its pages show what neighboring tiles have in common twice, so everything right of the first joint would
    lie too far right. How much is told by the metadata that OpenSlide could not read.

    Raises:
        SlideProblem: unreadable.
    """
    try:
        with TiffFile(path) as tiff:
            scanner = next((name for page in pages_of(tiff) if (name := _scanner(page.aspage()))), "")
    except (SlideProblem, MemoryError):
        raise
    except Exception:  # a directory that tifffile stumbles over is told by the reader that follows
        return
    if scanner:
        raise unreadable(
            f"a slide of a {scanner} scanner whose metadata OpenSlide cannot read: its tiles overlap, "
            "and by how much is not known; export it again"
        )


def _scanner(page: TiffPage) -> str:
    if not page.is_tiled:
        return ""
    if _VENTANA_LEVEL.match(page.description):
        return "Ventana"
    return "Trestle" if str(page.tags.valueof("Software", "")).startswith(_TRESTLE_SOFTWARE) else ""

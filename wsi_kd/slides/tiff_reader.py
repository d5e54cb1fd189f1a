"""TIFF that OpenSlide rejects: OME-TIFF, strips, planar and 16-bit samples, any compression that decodes."""

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tifffile import RESUNIT, TiffFile, TiffPage

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.units import Box
from wsi_kd.slides.protocol import Background, unreadable
from wsi_kd.slides.samples import BITS, RGB, to_rgb
from wsi_kd.slides.segment_reader import SegmentReader
from wsi_kd.slides.segments import LevelGrid, Segment
from wsi_kd.slides.tiff_decode import decode_piece
from wsi_kd.slides.tiff_layout import GRAY, TiffLayout, TiffLevel, pages_of, read_layout
from wsi_kd.slides.tiff_pages import OPACITY, PHOTOMETRICS, UPRIGHT

# What tifffile remarks on damaged directories would appear beside our one line, or as an error of its own.
logging.getLogger("tifffile").addHandler(logging.NullHandler())
logging.getLogger("tifffile").propagate = False

_APERIO = re.compile(r"\|\s*(MPP|AppMag)\s*=\s*([^|]+)")


class _Parsed(NamedTuple):
    """What is known of a TIFF before its pixels are read."""

    layout: TiffLayout
    format: str
    properties: dict[str, str]
    icc_profile: bytes | None


def open_tiff(path: Path, *, background: Background) -> SegmentReader:
    """Open a TIFF by tifffile.

    Raises:
        SlideProblem: unreadable, for a file that is damaged or holds what is not supported; empty, for
            channels that are no brightfield colors.
    """
    return SegmentReader(path, background=background, open_source=TiffSource)


def tells_more_than_openslide(path: Path) -> bool:
    """Tell whether a TIFF that OpenSlide reads as plain holds what OpenSlide does not look at.

    That is OME-XML (resolution, channels), levels in SubIFDs, an orientation tag other than upright, samples
    and colors that it would show wrongly or without a word (CMYK, channels of fluorescence, 16 bits), and
    pages that are not marked as levels: the slide itself behind its label, levels without a mark, a stack.
    """
    try:
        with TiffFile(path) as tiff:
            first, *others = pages_of(tiff)
            upright = first.tags.valueof("Orientation", 1) in UPRIGHT
            unmarked = any(not page.is_reduced for page in others)
            return bool(tiff.is_ome or first.subifds or not upright or unmarked or not _plain_colors(first))
    except Exception:  # tifffile raises anything over a damaged directory; OpenSlide has understood it
        return False


def _plain_colors(page: TiffPage) -> bool:
    """Tell whether a page holds 8-bit gray, palette or RGB, perhaps with opacity: OpenSlide knows these."""
    if page.dtype != np.uint8 or page.bitspersample != BITS or page.photometric not in PHOTOMETRICS:
        return False
    opacity = len(page.extrasamples) == 1 and int(page.extrasamples[0]) in OPACITY
    colors = int(page.samplesperpixel) - opacity
    return colors in {GRAY, RGB}


class TiffSource:
    """The levels of one TIFF; only the pieces that are asked for are read and decoded."""

    def __init__(self, path: Path) -> None:
        parsed = _parse(path)
        self._levels = parsed.layout.levels
        self._handle = path.open("rb")
        self.format = parsed.format
        self.grids: tuple[LevelGrid, ...] = tuple(level.pages[0].grid for level in self._levels)
        self.bounds = Box(0, 0, self.grids[0].width_px, self.grids[0].height_px)
        self.properties: Mapping[str, str] = parsed.properties
        self.icc_profile = parsed.icc_profile
        self.associated: Mapping[str, tuple[int, int]] = parsed.layout.associated

    def read_segment(self, level: int, *, column: int, row: int) -> Segment | None:
        """Decode one tile or strip to RGB(A); None where it was never stored.

        Raises:
            ValueError: (or what the decoder raises) for damaged bytes.
        """
        stored = self._levels[level].pages
        planes = [decode_piece(page, self._read, column=column, row=row) for page in stored]
        present = [plane for plane in planes if plane is not None]
        if not present:
            return None
        if len(present) < len(planes):
            raise ValueError("some of its color planes are not stored")
        samples = np.concatenate(present, axis=2) if len(present) > 1 else present[0]
        return to_rgb(samples, stored[0].model)

    def close(self) -> None:
        """Release the file."""
        self._handle.close()

    def _read(self, offset: int, length: int) -> bytes:
        data = os.pread(self._handle.fileno(), length, offset)
        if len(data) < length:
            raise ValueError(f"the file ends {length - len(data)} bytes before its piece does")
        return data


def _parse(path: Path) -> _Parsed:
    """Read all that is needed of the directory; tifffile closes the file afterwards."""
    try:
        with TiffFile(path) as tiff:
            layout = read_layout(tiff)
            first = tiff.pages[0].aspage()
            kind = _kind(layout.levels[0], is_ome=bool(tiff.is_ome))
            return _Parsed(layout, f"tiff/{kind}", _properties(first, layout), first.iccprofile or None)
    except (SlideProblem, MemoryError):
        raise
    except OSError as error:
        raise unreadable(f"cannot be opened ({error.strerror or error})") from None
    except Exception as error:  # tifffile raises anything over a damaged directory
        told = str(error)[:160] or type(error).__name__
        raise unreadable(f"its TIFF directory is damaged ({told}); copy or export it again") from None


def _kind(level: TiffLevel, *, is_ome: bool) -> str:
    if is_ome:
        return "ome"
    stored = level.pages[0]
    return "planar" if stored.planes > 1 else "plain" if stored.page.is_tiled else "strips"


def _properties(first: TiffPage, layout: TiffLayout) -> dict[str, str]:
    """Spell resolution as OpenSlide does, and tell what OME-XML or Aperio's description add."""
    found: dict[str, str] = {}
    for axis in ("X", "Y"):
        value = first.tags.valueof(f"{axis}Resolution")
        if value and value[1]:
            found[f"tiff.{axis}Resolution"] = f"{value[0] / value[1]:.12g}"
    unit = first.tags.valueof("ResolutionUnit", RESUNIT.INCH)
    found["tiff.ResolutionUnit"] = RESUNIT(unit).name.lower() if unit in set(RESUNIT) else str(unit)
    if first.description.startswith("ImageJ="):
        found["tiff.ImageDescription"] = first.description
    if first.is_svs:
        found |= {f"aperio.{key}": value.strip() for key, value in _APERIO.findall(first.description)}
    if layout.ome:
        found |= {f"ome.{key}": value for key, value in layout.ome.physical_size.items()}
    return found

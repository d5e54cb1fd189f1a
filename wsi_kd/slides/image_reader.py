"""PNG and JPEG by Pillow: exported regions and small scans, one level, decoded as a whole.

The pixels are held in memory, 3 bytes each (4 with opacity), once in a process however many readers share
them; while they are decoded, Pillow needs 4 more.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any, Final
from weakref import WeakValueDictionary

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.file_identity import FileIdentity
from wsi_kd.core.units import Box
from wsi_kd.slides.identity import identity_of
from wsi_kd.slides.protocol import Background, unreadable
from wsi_kd.slides.samples import BITS, RGB, RGBA, SampleModel, to_rgb
from wsi_kd.slides.segment_reader import SegmentReader
from wsi_kd.slides.segments import LevelGrid, Segment

MAX_PX: Final = 2 * 89_478_485
"""Pillow's own limit on images that may be bombs: 179 megapixels, 0.5 GB when decoded."""
FORMATS: Final = ("PNG", "JPEG")
_SIXTEEN_BITS: Final = {"I;16", "I;16B", "I;16L", "I"}
"""Pillow's modes of 16-bit grayscale PNG."""
_WITH_ALPHA: Final = {"RGBA", "LA", "PA", "La", "RGBa"}
_COLORS: Final = {"1", "L", "P", "RGB", *_WITH_ALPHA, *_SIXTEEN_BITS}
BAND_ROWS: Final = 512
UPRIGHT: Final = 1
_SIDEWAYS: Final = range(5, 9)
"""EXIF orientations that swap width and height."""
_INCHES_PER_METER: Final = 1 / 0.0254

_DECODED: Final[WeakValueDictionary[tuple[Path, FileIdentity], Any]] = WeakValueDictionary()
_DECODING: Final = Lock()


def open_image(path: Path, *, background: Background) -> SegmentReader:
    """Open a PNG or JPEG; its EXIF orientation is applied, so level 0 is the upright image.

    Raises:
        SlideProblem: unreadable, for an image that is damaged, too large or of foreign colors.
    """
    return SegmentReader(path, background=background, open_source=ImageSource)


class ImageSource:
    """One image as one piece, decoded when it is first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key = (path.resolve(), identity_of(path))
        self._pixels: Segment | None = None
        with _opened(path) as image:
            width, height = image.size
            if _orientation(image) in _SIDEWAYS:
                width, height = height, width
            self.format = f"image/{str(image.format).lower()}"
            self.properties: Mapping[str, str] = _properties(image)
            profile = image.info.get("icc_profile")
        self.grids: tuple[LevelGrid, ...] = (LevelGrid(width, height, width, height),)
        self.bounds = Box(0, 0, width, height)
        self.icc_profile: bytes | None = profile or None
        self.associated: Mapping[str, tuple[int, int]] = {}

    def read_segment(self, level: int, *, column: int, row: int) -> Segment:
        """Return the whole image, RGB or RGBA.

        Raises:
            OSError: (or what Pillow raises) for a damaged image.
        """
        if self._pixels is None:
            with _DECODING:
                pixels: Segment | None = _DECODED.get(self._key)
                if pixels is None:
                    pixels = _DECODED[self._key] = _decode(self._path)
                self._pixels = pixels
        return self._pixels

    def close(self) -> None:
        """Give the pixels up."""
        self._pixels = None


def _opened(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of size, where MAX_PX is the limit, and of damaged EXIF
            image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError:
        raise unreadable(_too_large("more than")) from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise unreadable(f"its image header is damaged ({error}); export it again") from None
    try:
        _check(image)
    except SlideProblem:
        image.close()
        raise
    return image


def _check(image: Image.Image) -> None:
    if image.width * image.height > MAX_PX:
        raise unreadable(_too_large(f"{image.width}x{image.height} px, more than"))
    if image.mode not in _COLORS:
        raise unreadable(f"its colors are {image.mode}; export 8-bit RGB")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; a PNG that names none before its pixels is upright.

    Pillow would decode the whole PNG to look for one behind them. Damaged EXIF turns nothing, as in viewers.
    """
    if image.format == "PNG" and "exif" not in image.info:
        return UPRIGHT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
        except Exception:  # Pillow raises anything over damaged EXIF
            return UPRIGHT
    return found if isinstance(found, int) else UPRIGHT


def _too_large(what: str) -> str:
    return (
        f"{what} the {MAX_PX / 1e6:.3g} megapixels that a PNG or JPEG may have, as it is decoded whole; "
        "write it in tiles (vips tiffsave in.png out.tif --tile --pyramid --compression jpeg --bigtiff)"
    )


def _decode(path: Path) -> Segment:
    with _opened(path) as image:
        upright = ImageOps.exif_transpose(image) if _orientation(image) != UPRIGHT else image
        upright.load()
        alpha = upright.mode in _WITH_ALPHA or "transparency" in upright.info
        pixels = np.empty((upright.height, upright.width, RGBA if alpha else RGB), np.uint8)
        for top in range(0, upright.height, BAND_ROWS):  # a whole conversion would hold every pixel thrice
            band = upright.crop((0, top, upright.width, min(top + BAND_ROWS, upright.height)))
            pixels[top : top + BAND_ROWS] = _eight_bits(band, "RGBA" if alpha else "RGB")
        return pixels


def _eight_bits(band: Image.Image, mode: str) -> Segment:
    if band.mode not in _SIXTEEN_BITS:
        return np.asarray(band.convert(mode))
    gray = np.asarray(band)[..., None].astype(np.uint16)
    model = SampleModel(2 * BITS, inverted=False, colormap=None, alpha=False, premultiplied=False)
    return to_rgb(gray, model)


def _properties(image: Image.Image) -> dict[str, str]:
    """Tell the resolution: pHYs of a PNG in pixels a meter, JFIF's or EXIF's density as TIFF spells it."""
    found = {"stored.compression": str(image.format)}
    dpi = image.info.get("dpi")
    if not dpi:
        return found
    if image.format == "PNG":
        return found | {
            f"png.pHYs-{axis}": f"{value * _INCHES_PER_METER:.10g}"
            for axis, value in zip("xy", dpi, strict=True)
        }
    density = {
        f"tiff.{axis}Resolution": f"{float(value):.10g}" for axis, value in zip("XY", dpi, strict=True)
    }
    return {**found, **density, "tiff.ResolutionUnit": "inch"}

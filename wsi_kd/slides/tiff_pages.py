"""How a page of a TIFF is stored: tiles or strips, interleaved or not, and what its numbers mean."""

from typing import Any, NamedTuple

import numpy as np
from tifffile import COMPRESSION, PHOTOMETRIC, TIFF, TiffPage

from wsi_kd.slides.jpeg_stream import JpegStreams, StoredColors
from wsi_kd.slides.protocol import unreadable
from wsi_kd.slides.samples import BITS, RGB, RGBA, SampleModel
from wsi_kd.slides.segments import LevelGrid

MAX_SEGMENT_BYTES = 2**29
"""A tile or strip that decodes to more is refused: one tile would cost it all."""
RAW_BYTES = 2**22
"""Uncompressed strips are read in runs of rows of about this size, however tall they are."""
MAX_SAMPLE_BYTES = 2
"""Samples of 32 bits hold counts or measurements, whose range no tag tells."""
SEPARATE = 2
UPRIGHT = {0, 1}
"""Orientation tags that ask for nothing; 0 is what some scanners write for 1."""
ENDS_BY_MARKER = {
    *(COMPRESSION.OJPEG, COMPRESSION.JPEG, COMPRESSION.ALT_JPEG),
    *(COMPRESSION.APERIO_JP2000_YCBC, COMPRESSION.APERIO_JP2000_RGB, COMPRESSION.JPEG2000),
}
_BECOMES_RGB = {*ENDS_BY_MARKER, COMPRESSION.WEBP} - {COMPRESSION.APERIO_JP2000_YCBC}
"""Compressions whose decoder turns YCbCr into RGB."""
PHOTOMETRICS = {
    *(PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB),
    *(PHOTOMETRIC.PALETTE, PHOTOMETRIC.YCBCR),
}
_BIO_FORMATS = "OME Bio-Formats"
"""How the Software tag of each page that it wrote begins."""
OPACITY = {1: True, 2: False}
"""ExtraSamples: 1 is premultiplied opacity, 2 is opacity; anything else is no color."""


class StoredPage(NamedTuple):
    """One page and what is needed to decode its pieces."""

    page: TiffPage
    grid: LevelGrid
    model: SampleModel
    dtype: np.dtype[Any]
    planes: int
    """Planes the samples are split over (PlanarConfiguration 2): 1 where they are interleaved."""
    row_bytes: int
    """Bytes of one uncompressed row of one plane."""
    tables: bytes | None
    """Tables that the JPEG tiles of this page share."""
    raw: bool
    """Uncompressed rows that are read as they lie, in runs of the grid's height."""
    streams: JpegStreams | None
    """For JPEG: tiles of three interleaved colors, or of one plane each."""


def store_page(page: TiffPage, *, significant_bits: int | None = None) -> StoredPage:
    """Describe how a page is stored.

    Args:
        page: a page as tifffile read it.
        significant_bits: bits of a sample that carry information, where other metadata tell.

    Raises:
        SlideProblem: unreadable, for samples, colors or pieces that are not supported, by name.
    """
    dtype = _dtype(page)
    _refuse_foreign(page)
    samples = int(page.samplesperpixel)
    planes = samples if page.planarconfig == SEPARATE else 1
    row_bytes = int(page.imagewidth) * samples // planes * dtype.itemsize
    raw = _is_raw(page, dtype)
    width, height = int(page.imagewidth), int(page.imagelength)
    if page.is_tiled:
        piece = (int(page.tilewidth), int(page.tilelength))
    else:
        rows = RAW_BYTES // row_bytes if raw else int(page.rowsperstrip)
        piece = (width, max(1, min(height, rows)))
    _ = page.decode  # made while the file is open: it looks at tags
    _refuse_vast(piece, piece[0] * piece[1] * samples * dtype.itemsize)
    return StoredPage(
        page,
        LevelGrid(width, height, *piece),
        _model(page, significant_bits),
        dtype=dtype,
        planes=planes,
        row_bytes=row_bytes,
        tables=page.jpegtables,
        raw=raw,
        streams=_streams(page, planes),
    )


def _dtype(page: TiffPage) -> np.dtype[Any]:
    if page.dtype is None or page.dtype.kind not in "ub" or page.dtype.itemsize > MAX_SAMPLE_BYTES:
        kind = "of no known type" if page.dtype is None else page.dtype.name
        raise unreadable(f"its samples are {kind}; export 8-bit RGB")
    return page.dtype


def _refuse_vast(piece: tuple[int, int], decoded_bytes: int) -> None:
    if decoded_bytes > MAX_SEGMENT_BYTES:
        raise unreadable(
            f"stored in pieces of {piece[0]}x{piece[1]} px, {decoded_bytes / 2**20:,.0f} MiB each; "
            "write it in tiles (vips tiffsave in.tif out.tif --tile --pyramid --compression jpeg --bigtiff)"
        )


def _streams(page: TiffPage, planes: int) -> JpegStreams | None:
    if page.compression != COMPRESSION.JPEG or page.bitspersample != BITS:
        return None
    if planes > 1:
        return JpegStreams(page.jpegtables or b"", "gray")
    if page.samplesperpixel != RGB:
        return None
    # Bio-Formats writes JFIF streams, which are always YCbCr, below a tag that says RGB.
    colors: StoredColors = "ycbcr" if page.photometric == PHOTOMETRIC.YCBCR or page.is_jfif else "rgb"
    return JpegStreams(page.jpegtables or b"", colors)


def _is_raw(page: TiffPage, dtype: np.dtype[Any]) -> bool:
    return (
        not page.is_tiled
        and page.compression == COMPRESSION.NONE
        and page.predictor == 1
        and page.fillorder == 1
        and page.bitspersample == BITS * dtype.itemsize
        and all(page.databytecounts)
    )


def _refuse_foreign(page: TiffPage) -> None:
    """Refuse by name what would be read wrongly."""
    if page.compression not in TIFF.DECOMPRESSORS:
        raise unreadable(f"no decoder for its compression {_name(page.compression)}; export it with JPEG")
    if page.imagedepth > 1:
        raise unreadable(f"it has {page.imagedepth} focal planes; export one of them")
    if page.photometric not in PHOTOMETRICS:
        raise unreadable(f"its colors are {_name(page.photometric)}; export 8-bit RGB")
    if page.photometric == PHOTOMETRIC.YCBCR and page.compression not in _BECOMES_RGB:
        raise unreadable(f"YCbCr colors with compression {_name(page.compression)}; export 8-bit RGB")
    if page.photometric == PHOTOMETRIC.YCBCR and page.planarconfig == SEPARATE and not _by_bio_formats(page):
        raise unreadable("YCbCr colors in a plane each, which nothing here makes RGB; export 8-bit RGB")
    if page.photometric == PHOTOMETRIC.PALETTE and page.colormap is None:
        raise unreadable("a palette image without its palette; export 8-bit RGB")
    if 0 in (page.imagewidth, page.imagelength):
        raise unreadable("a page without pixels; export the slide again")
    orientation = page.tags.valueof("Orientation", 1)
    if orientation not in UPRIGHT:
        raise unreadable(
            f"orientation tag {int(orientation)}: viewers disagree on such files, so drawings would not fit; "
            "turn the pixels upright (vips autorot in.tif out.tif); set a wrong tag to 1 (tiffset -s 274 1)"
        )


def _by_bio_formats(page: TiffPage) -> bool:
    """Tell whether Bio-Formats wrote a page: 7 tags all JPEG as YCbCr, though its planes hold RGB."""
    return str(page.tags.valueof("Software", "")).startswith(_BIO_FORMATS)


def _model(page: TiffPage, significant_bits: int | None) -> SampleModel:
    extra = page.extrasamples
    alpha = OPACITY.get(int(extra[0])) if len(extra) == 1 and page.samplesperpixel == RGBA else None
    declared = int(page.bitspersample)
    colormap = None
    if page.photometric == PHOTOMETRIC.PALETTE and page.colormap is not None:
        colormap = (np.asarray(page.colormap).T >> BITS).astype(np.uint8)
    return SampleModel(
        bits=significant_bits if significant_bits and BITS <= significant_bits < declared else declared,
        inverted=page.photometric == PHOTOMETRIC.MINISWHITE,
        colormap=colormap,
        alpha=alpha is not None,
        premultiplied=bool(alpha),
    )


def _name(value: object) -> str:
    return str(getattr(value, "name", value))

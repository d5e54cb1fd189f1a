"""What a slide's file tells of itself: format, levels, how they are stored; never whose tissue it is."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tifffile import TiffFile, TiffPage

from wsi_kd.core.units import Box
from wsi_kd.slides.facts import SlideFacts, slide_facts
from wsi_kd.slides.protocol import SlideReader
from wsi_kd.slides.tiff_layout import pages_of

_TIFF_VENDORS = (
    *("aperio", "argos", "generic-tiff", "hamamatsu", "huron"),
    *("leica", "philips", "trestle", "ventana"),
)
"""OpenSlide's vendors whose files are TIFF, but for Hamamatsu's VMS and VMU."""
_OVERLAPPING = ("trestle", "ventana")
"""Those whose level 0 is smaller than its page, which holds what tiles have in common twice."""
_TOLD_BY_KEY = {
    "hamamatsu.NoJpegColumns": "JPEG",
    "hamamatsu.BitsPerPixel": "none",
    "sakura.VersionBytes": "JPEG",
}
"""Properties that only formats of one compression have: VMS, VMU, Sakura."""
_TRANSFER_SYNTAXES = {
    "1.2.840.10008.1.2": "none",
    "1.2.840.10008.1.2.1": "none",
    "1.2.840.10008.1.2.4.50": "JPEG",
    "1.2.840.10008.1.2.4.90": "JPEG2000",
    "1.2.840.10008.1.2.4.91": "JPEG2000",
}
"""DICOM's transfer syntaxes that OpenSlide reads."""
_IMAGE_NAMES = ("label", "macro", "thumbnail", "overview", "map", "barcode", "localizer")
_MIRAX_FORMAT = "mirax.LAYER_0_LEVEL_0_SECTION.IMAGE_FORMAT"
UNKNOWN = "unknown"


class StoredLevel(NamedTuple):
    """One level as the file holds it."""

    width_px: int
    height_px: int
    downsample: float
    piece_width_px: int
    """Width of a stored tile, strip or chunk; 0 where the format does not tell."""
    piece_height_px: int


class SlideFile(NamedTuple):
    """A slide's file; nothing in it names a patient."""

    facts: SlideFacts
    levels: tuple[StoredLevel, ...]
    bounds: Box
    background: tuple[int, int, int]
    associated: dict[str, tuple[int, int]]
    """Width and height of label, macro and thumbnail by name; their pixels are never read."""
    compression: str
    icc_bytes: int
    """Size of the color profile; 0 where there is none."""
    unstored: int
    """Level-0 tiles that were never stored, which read as background; -1 where the format does not tell."""


def describe_file(reader: SlideReader) -> SlideFile:
    """Collect what may be told of an open slide.

    Raises:
        SlideProblem: unreadable, when its color profile is damaged.
    """
    compression, unstored = _stored_as(reader)
    profile = reader.icc_profile
    return SlideFile(
        facts=slide_facts(reader),
        levels=tuple(_level(reader, level) for level in range(len(reader.level_dimensions))),
        bounds=reader.bounds,
        background=reader.background,
        associated=_associated(reader),
        compression=compression,
        icc_bytes=len(profile) if profile else 0,
        unstored=unstored,
    )


def _associated(reader: SlideReader) -> dict[str, tuple[int, int]]:
    """Name the other images by the words that formats know; one that somebody named gets a number."""
    return {
        name if name.casefold() in _IMAGE_NAMES else f"image {number}": size
        for number, (name, size) in enumerate(reader.associated.items(), start=1)
    }


def _level(reader: SlideReader, level: int) -> StoredLevel:
    piece = [
        max(_whole(reader.properties, f"{who}.level[{level}].tile-{edge}") for who in ("openslide", "stored"))
        for edge in ("width", "height")
    ]
    return StoredLevel(*reader.level_dimensions[level], reader.level_downsamples[level], *piece)


def _whole(properties: Mapping[str, str], key: str) -> int:
    raw = properties.get(key, "")
    return int(raw) if raw.isdigit() else 0


def _stored_as(reader: SlideReader) -> tuple[str, int]:
    """Return the compression of level 0 and how many of its tiles were never stored."""
    properties = reader.properties
    if told := properties.get("stored.compression"):
        return told, -1
    if told := properties.get(_MIRAX_FORMAT):
        return told.upper(), -1
    if told := properties.get("dicom.TransferSyntaxUID"):
        return _TRANSFER_SYNTAXES.get(told, UNKNOWN), -1
    for key, told in _TOLD_BY_KEY.items():
        if key in properties:
            return told, -1
    vendor = properties.get("openslide.vendor", "")
    if vendor not in _TIFF_VENDORS and not reader.format.startswith("tiff/"):
        return UNKNOWN, -1
    return _of_tiff(reader)


def _of_tiff(reader: SlideReader) -> tuple[str, int]:
    """Look at the page of level 0; NDPI stores its rows as one JPEG, which is no list of tiles."""
    try:
        with TiffFile(reader.path) as tiff:
            page = _page_of_level0(list(pages_of(tiff)), reader)
            if page is None:
                return UNKNOWN, -1
            empty = sum(size == 0 for size in page.databytecounts)
            return str(getattr(page.compression, "name", page.compression)), empty
    except Exception:  # tifffile raises anything over a directory that it does not know
        return UNKNOWN, -1


def _page_of_level0(pages: Sequence[TiffPage], reader: SlideReader) -> TiffPage | None:
    """Return the page of level 0's size, or the largest tiled one where stored tiles overlap."""
    if reader.properties.get("openslide.vendor") in _OVERLAPPING:
        tiled = [page for page in pages if page.is_tiled]
        return max(tiled, key=lambda page: page.imagewidth * page.imagelength, default=None)
    size = reader.level_dimensions[0]
    return next((page for page in pages if (page.imagewidth, page.imagelength) == size), None)

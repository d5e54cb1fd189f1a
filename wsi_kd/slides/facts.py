"""What may be told of a slide on a page: format, vendor, scanner, objective; never whose tissue it is."""

from collections.abc import Mapping
from typing import NamedTuple

from wsi_kd.slides.protocol import SlideReader

VENDOR_KEYS = ("openslide.vendor", "tiff.Make", "dicom.Manufacturer", "philips.DICOM_MANUFACTURER")
SCANNER_KEYS = (
    "tiff.Model",
    "hamamatsu.Product",
    "leica.device-model",
    "dicom.ManufacturerModelName",
    "aperio.ScanScope ID",
)
OBJECTIVE_KEYS = ("openslide.objective-power", "aperio.AppMag", "hamamatsu.SourceLens")
MAX_LETTERS = 60


class SlideFacts(NamedTuple):
    """What the scanner says of itself, '' where it says nothing.

    Only the keys above are read: descriptions, comments, dates and serial texts may name a patient.
    """

    format: str
    vendor: str
    scanner: str
    objective: str


def slide_facts(reader: SlideReader) -> SlideFacts:
    """Read the facts of an open slide."""
    return SlideFacts(
        reader.format,
        vendor=_first(reader.properties, VENDOR_KEYS),
        scanner=_first(reader.properties, SCANNER_KEYS),
        objective=_first(reader.properties, OBJECTIVE_KEYS),
    )


def _first(properties: Mapping[str, str], keys: tuple[str, ...]) -> str:
    """Return the first of the keys that says something, in one line of bounded length."""
    told = (" ".join(properties.get(key, "").split())[:MAX_LETTERS] for key in keys)
    return next((text for text in told if text), "")

"""What may be told of a slide on a page: format, vendor, scanner, objective; never whose tissue it is."""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from wsi_kd.slides.protocol import SlideReader

VENDOR_KEYS = ("openslide.vendor", "tiff.Make", "dicom.Manufacturer", "philips.DICOM_MANUFACTURER")
SCANNER_KEYS = (
    "tiff.Model",
    "hamamatsu.Product",
    "leica.device-model",
    "dicom.ManufacturerModelName",
)
SERIAL_KEY = "aperio.ScanScope ID"
"""Serial number of the scanner, which identifies a hospital's machine: told as a short hash."""
OBJECTIVE_KEYS = ("openslide.objective-power", "aperio.AppMag", "hamamatsu.SourceLens")
MAX_LETTERS = 60
HASH_LETTERS = 8


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
        scanner=_first(reader.properties, SCANNER_KEYS) or _scanscope(reader.properties),
        objective=_first(reader.properties, OBJECTIVE_KEYS),
    )


def _scanscope(properties: Mapping[str, str]) -> str:
    """Tell Aperio's scanners apart without their serial numbers."""
    serial = properties.get(SERIAL_KEY, "").strip()
    return f"ScanScope {hashlib.sha256(serial.encode()).hexdigest()[:HASH_LETTERS]}" if serial else ""


def _first(properties: Mapping[str, str], keys: tuple[str, ...]) -> str:
    """Return the first of the keys that says something, in one line of bounded length."""
    told = (" ".join(properties.get(key, "").split())[:MAX_LETTERS] for key in keys)
    return next((text for text in told if text), "")

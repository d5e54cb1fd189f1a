"""Which series a DICOM file belongs to, by its first bytes; nothing else in them is looked at."""

import re
from functools import lru_cache
from pathlib import Path
from typing import Final

PREAMBLE_BYTES: Final = 128
MAGIC: Final = b"DICM"
_STUDY_THEN_SERIES: Final = re.compile(
    rb"\x20\x00\x0d\x00UI..[0-9.]+\0?\x20\x00\x0e\x00UI..([0-9.]+)", re.DOTALL
)
_FIRST_BYTES: Final = 1 << 14
_HEADER_BYTES: Final = 1 << 20
"""Read where the first bytes do not hold it."""
_KNOWN: Final = 1 << 16
"""Files whose series is remembered: every slide of a folder asks for that of every file in it."""


def series_of(path: Path) -> bytes:
    """Return the SeriesInstanceUID (0020,000E) of an explicit-VR little-endian file, or nothing.

    Whole-slide files are so encoded: compressed transfer syntaxes admit no other (DICOM PS3.5, section 10).
    The file's own series follows its study (0020,000D) at once; a series it refers to does not.
    """
    try:
        found = path.stat()
        return _series(path, found.st_size, found.st_mtime_ns)
    except OSError:
        return b""


@lru_cache(maxsize=_KNOWN)
def _series(path: Path, _size: int, _modified_ns: int) -> bytes:
    with path.open("rb") as handle:
        header = handle.read(_FIRST_BYTES)
        if header[PREAMBLE_BYTES:][: len(MAGIC)] != MAGIC:
            return b""
        found = _STUDY_THEN_SERIES.search(header)
        if found is None or found.end() == len(header):  # perhaps cut inside the number
            found = _STUDY_THEN_SERIES.search(header + handle.read(_HEADER_BYTES))
    return found[1] if found else b""

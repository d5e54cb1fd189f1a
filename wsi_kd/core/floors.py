"""The oldest libraries that damaged or hostile files may be given to, and why; `wsi-kd doctor` compares."""

import re
from typing import Final, NamedTuple

from wsi_kd.core.errors import BadInput

_CHECKOUT: Final = "make install (or: pip install --upgrade -c constraints.txt -e .)"
_LEADING_NUMBER = re.compile(r"\d+")


class Floor(NamedTuple):
    """The oldest version that will do."""

    version: tuple[int, ...]
    why: str
    """What an older one does."""
    remedy: str = _CHECKOUT

    @property
    def text(self) -> str:
        """The version as it is written."""
        return ".".join(map(str, self.version))


FLOORS: Final = {
    "OpenSlide": Floor(
        (4, 0, 1),
        "writes outside its memory on a crafted Ventana slide (CVE-2026-48977), shows pixels that were never "
        "read (CVE-2026-54604)",
        "pip install --upgrade openslide-python openslide-bin",
    ),
    "torch": Floor(
        (2, 10),
        "can be made to run code or break its memory by a weight file (CVE-2025-32434, CVE-2026-24747)",
    ),
    "libtiff": Floor((4, 7, 1), "writes outside its memory on a crafted TIFF (CVE-2025-9900)"),
    "Pillow": Floor((12, 3), "writes outside its memory on crafted images (CVE-2026-25990 among others)"),
    "HDF5": Floor(
        (2, 0), "lacks the corrections of 2025 for crafted files (CVE-2025-2310, -2926, -6816, ...)"
    ),
    "safetensors": Floor((0, 5), "is older than what the tests run on"),
}
"""By the name that `doctor` prints. libtiff is asked of Pillow and imagecodecs; OpenSlide's own cannot be."""


def version_numbers(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version.

    >>> version_numbers("2.13.0+cpu"), version_numbers("4.7.1"), version_numbers("2.10.0rc1")
    ((2, 13, 0), (4, 7, 1), (2, 10, 0))
    """
    numbers = []
    for part in text.split("+", maxsplit=1)[0].split("."):
        leading = _LEADING_NUMBER.match(part)
        if leading is None:
            break
        numbers.append(int(leading[0]))
    return tuple(numbers)


def refuse_below(name: str, found: str) -> None:
    """Refuse a library that is older than its floor.

    Raises:
        BadInput: what it is, what is needed, what the older one does, and the remedy.
    """
    floor = FLOORS[name]
    if version_numbers(found) < floor.version:
        raise BadInput(
            f"{name} {found}: needs {floor.text} or newer, an older one {floor.why}; {floor.remedy}"
        )

"""What the line needs of a slide, whatever file it comes from."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, runtime_checkable

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.core.shapes import Pixels
from wsi_kd.core.units import Box

Background = Literal["metadata", "white"]
WHITE = (255, 255, 255)


@runtime_checkable
class SlideReader(Protocol):
    """What the steps need of a slide. Everything after a reader sees 8-bit RGB."""

    path: Path
    format: str
    """What reads it and what it is: openslide/aperio, tiff/ome, tiff/plain, image/png, zarr/ome, ..."""
    level_dimensions: tuple[tuple[int, int], ...]
    """Width and height of every level in its own pixels; level 0 is the finest."""
    level_downsamples: tuple[float, ...]
    properties: Mapping[str, str]
    bounds: Box
    """The scanned part; the whole slide where the scanner names none."""
    background: tuple[int, int, int]
    associated: Mapping[str, tuple[int, int]]
    """Width and height of label, macro and thumbnail by name; the line never reads their pixels."""

    @property
    def icc_profile(self) -> bytes | None:
        """The color profile of the pixels as the file holds it.

        Raises:
            SlideProblem: unreadable, when the profile is damaged.
        """
        ...

    def read_region(
        self, *, x_level0_px: int, y_level0_px: int, level: int, width_px: int, height_px: int
    ) -> Pixels:
        """Read pixels of one level from a level-0 corner, composited on the background.

        Raises:
            SlideProblem: unreadable, when the region is damaged; the next call works again.
        """
        ...

    def close(self) -> None:
        """Release the file."""
        ...

    def __enter__(self) -> "SlideReader":
        """Return the reader itself."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the reader."""
        ...


def unreadable(reason: str) -> SlideProblem:
    """Build the problem of a file that cannot be read; its reason is one line of printable letters.

    Libraries quote what a damaged file holds, be it half a letter or what a terminal would obey.
    """
    one_line = " ".join(reason.split())
    printable = "".join(letter if letter.isprintable() else "?" for letter in one_line)
    return SlideProblem(SlideStatus.UNREADABLE, printable)

"""Slides behind a small protocol: RGB regions on the slide's own background, from OpenSlide.

One handle belongs to one process. A reader that is pickled, or found in a forked child, opens the file anew
there, so it may be handed to workers freely; threads may share it.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, runtime_checkable

import cv2
import numpy as np
import openslide
from jaxtyping import UInt8
from PIL.Image import Image

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.core.shapes import Pixels
from wsi_kd.core.units import Box

Background = Literal["metadata", "white"]
WHITE = (255, 255, 255)
OPAQUE = 255


@runtime_checkable
class SlideReader(Protocol):
    """What the steps need of a slide."""

    path: Path
    level_dimensions: tuple[tuple[int, int], ...]
    """Width and height of every level in its own pixels; level 0 is the finest."""
    level_downsamples: tuple[float, ...]
    properties: Mapping[str, str]
    bounds: Box
    """The scanned part; the whole slide where the scanner names none."""
    background: tuple[int, int, int]

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


def open_slide(path: Path, *, background: Background) -> "OpenSlideReader":
    """Open a slide.

    Args:
        path: any file that OpenSlide reads.
        background: what transparent pixels are composited on: the color in `openslide.background-color`
            (white where the slide names none), or always white.

    Raises:
        SlideProblem: unreadable, for a file that is absent, empty, of a foreign format or damaged.
    """
    return OpenSlideReader(path, background=background)


class OpenSlideReader:
    """A `SlideReader` over openslide-python; everything but pixels is read once, when it is opened."""

    def __init__(self, path: Path, *, background: Background) -> None:
        self.path = path
        self._background: Background = background
        slide = _open(path)
        try:
            self.properties: Mapping[str, str] = dict(slide.properties)
            self.level_dimensions = tuple(slide.level_dimensions)
            self.level_downsamples = tuple(slide.level_downsamples)
        except openslide.OpenSlideError as error:
            raise _unreadable(f"its header is damaged ({error})") from None
        if not self.level_dimensions or min(min(size) for size in self.level_dimensions) < 1:
            raise _unreadable(f"a level without pixels ({self.level_dimensions}); export the slide again")
        self.background = _background_color(self.properties) if background == "metadata" else WHITE
        self.bounds = _bounds(self.properties, self.level_dimensions[0])
        self._slide = slide
        self._process = os.getpid()
        self._inherited: list[openslide.OpenSlide] = []

    def read_region(
        self, *, x_level0_px: int, y_level0_px: int, level: int, width_px: int, height_px: int
    ) -> Pixels:
        """Read one region as RGB; what lies outside the slide is background.

        Raises:
            SlideProblem: unreadable, when the region is damaged.
        """
        where = ((x_level0_px, y_level0_px), level, (width_px, height_px))
        slide = self._current()
        try:
            image = slide.read_region(*where)
        except openslide.OpenSlideError as error:
            image = self._read_anew(slide, where, first=error)
        return _composite(np.asarray(image), self.background)

    def close(self) -> None:
        """Release the file; closing twice is harmless."""
        if self._process == os.getpid():
            self._slide.close()

    def __enter__(self) -> "OpenSlideReader":
        """Return the reader itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the reader."""
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as path and background: the process that unpickles opens its own handle."""
        return _reopen, (self.path, self._background)

    def _current(self) -> openslide.OpenSlide:
        if self._process != os.getpid():
            # The parent's handle is kept, never closed or used: its locks may have been held while forking.
            self._inherited.append(self._slide)
            self._slide, self._process = _open(self.path), os.getpid()
        return self._slide

    def _read_anew(
        self,
        failed: openslide.OpenSlide,
        where: tuple[tuple[int, int], int, tuple[int, int]],
        *,
        first: openslide.OpenSlideError,
    ) -> Image:
        """Try once more with a handle of its own: OpenSlide refuses every call on a handle after one error.

        The old handle is dropped, not closed: another thread may still be inside it.
        """
        fresh = _open(self.path)
        try:
            image = fresh.read_region(*where)
        except openslide.OpenSlideError:
            if self._slide is failed:
                self._slide = _open(self.path)
            (x, y), level, (width, height) = where
            raise _unreadable(
                f"damaged at x {x}, y {y} (level {level}, {width}x{height} px): {first}"
            ) from None
        self._slide = fresh
        return image


def _reopen(path: Path, background: Background) -> OpenSlideReader:
    return open_slide(path, background=background)


def _open(path: Path) -> openslide.OpenSlide:
    if not path.exists():
        raise _unreadable("no such file; correct the path in the manifest")
    if path.is_file() and path.stat().st_size == 0:
        raise _unreadable("the file is empty (0 bytes); copy it again")
    try:
        return openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError:
        raise _unreadable("no format that OpenSlide reads; convert it to a tiled pyramidal TIFF") from None
    except openslide.OpenSlideError as error:
        raise _unreadable(f"OpenSlide cannot open it ({error}); copy or export it again") from None
    except OSError as error:
        raise _unreadable(f"cannot be opened ({error.strerror or error})") from None


def _unreadable(reason: str) -> SlideProblem:
    return SlideProblem(SlideStatus.UNREADABLE, " ".join(reason.split()))


def _composite(rgba: UInt8[np.ndarray, "height width 4"], background: tuple[int, int, int]) -> Pixels:
    """Blend straight-alpha RGBA: `(alpha color + (255 - alpha) background) / 255`, rounded."""
    rgb: Pixels = cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB)
    alpha = rgba[..., 3]
    see_through = alpha < OPAQUE
    if see_through.any():
        weight = alpha[see_through, None].astype(np.uint32)
        blend = weight * rgb[see_through] + (OPAQUE - weight) * np.asarray(background, np.uint32)
        rgb[see_through] = (blend + OPAQUE // 2) // OPAQUE
    return rgb


def _background_color(properties: Mapping[str, str]) -> tuple[int, int, int]:
    raw = properties.get("openslide.background-color", "").removeprefix("#")
    try:
        red, green, blue = bytes.fromhex(raw)
    except ValueError:
        return WHITE
    return red, green, blue


def _bounds(properties: Mapping[str, str], size: tuple[int, int]) -> Box:
    whole = Box(0, 0, *size)
    try:
        x, y, width, height = (
            int(properties[f"openslide.bounds-{key}"]) for key in ("x", "y", "width", "height")
        )
    except (KeyError, ValueError):
        return whole
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + width, size[0]), min(y + height, size[1])
    if right <= left or bottom <= top:
        return whole
    return Box(left, top, right - left, bottom - top)

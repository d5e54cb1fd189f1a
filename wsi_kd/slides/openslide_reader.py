"""Slides that OpenSlide reads: the scanners' own formats, DICOM and tiled TIFF.

One handle belongs to one process. A reader that is pickled, or found in a forked child, opens the file anew
there, so it may be handed to workers freely; threads may share it.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType

import openslide
from openslide import lowlevel

from wsi_kd.core.floors import refuse_below
from wsi_kd.core.shapes import Pixels
from wsi_kd.core.units import Box
from wsi_kd.slides.composite import background_color
from wsi_kd.slides.hamamatsu_index import without_part_names
from wsi_kd.slides.identity import SlideIdentity, check_all_unchanged, identities_of
from wsi_kd.slides.ledger import LEDGER
from wsi_kd.slides.premultiplied import Premultiplied, on_background, read_premultiplied
from wsi_kd.slides.protocol import WHITE, Background, unreadable

_NOT_DECODED = "compression is not supported"
"""What OpenSlide says of a Zeiss slide in JPEG XR, a common one."""
_CONVERT = "save it with another compression (ZEN: Zstandard), or convert it: bfconvert in.czi out.ome.tif"

_Where = tuple[tuple[int, int], int, tuple[int, int]]
"""Corner in level-0 pixels, level, size in pixels of that level."""


class OpenSlideReader:
    """A `SlideReader` over openslide-python; everything but pixels is read once, when it is opened."""

    def __init__(self, path: Path, *, background: Background) -> None:
        refuse_below("OpenSlide", openslide.__library_version__)
        self.path = path
        self._background: Background = background
        self._identity = identities_of(path)
        slide = _open(path)
        try:
            self.properties: Mapping[str, str] = _properties(slide)
            self.level_dimensions = tuple(slide.level_dimensions)
            self.level_downsamples = tuple(slide.level_downsamples)
            self.associated: Mapping[str, tuple[int, int]] = {
                name: lowlevel.get_associated_image_dimensions(slide._osr, name)
                for name in lowlevel.get_associated_image_names(slide._osr)
            }
        except openslide.OpenSlideError as error:
            raise unreadable(f"its header is damaged ({error})") from None
        if not self.level_dimensions or min(min(size) for size in self.level_dimensions) < 1:
            raise unreadable(f"a level without pixels ({self.level_dimensions}); export the slide again")
        self.format = f"openslide/{self.properties.get('openslide.vendor', 'unknown')}"
        self.background = background_color(self.properties) if background == "metadata" else WHITE
        self.bounds = bounds_of(self.properties, self.level_dimensions[0])
        self._slide = slide
        self._process = os.getpid()
        self._inherited: list[openslide.OpenSlide] = []

    @cached_property
    def icc_profile(self) -> bytes | None:
        """The color profile of the pixels as the file holds it.

        Raises:
            SlideProblem: unreadable, when the profile is damaged.
        """
        with _open(self.path) as slide:  # of its own: an error here must not spoil the handle of the pixels
            try:
                return lowlevel.read_icc_profile(slide._osr) or None
            except openslide.OpenSlideError as error:
                raise unreadable(f"its color profile is damaged ({error}); export the slide again") from None

    def read_region(
        self, *, x_level0_px: int, y_level0_px: int, level: int, width_px: int, height_px: int
    ) -> Pixels:
        """Read one region as RGB; what lies outside the slide is background.

        Raises:
            SlideProblem: unreadable, when the region is damaged.
        """
        where = ((x_level0_px, y_level0_px), level, (width_px, height_px))
        slide = self._current()
        with LEDGER.reading(self.path):
            try:
                pixels = _pixels(slide, where)
            except openslide.OpenSlideError as error:
                pixels = self._read_anew(slide, where, first=error)
        check_all_unchanged(self._identity)
        return on_background(pixels, self.background)

    def bound_cache(self, most_bytes: int) -> None:
        """Let OpenSlide keep at most so many bytes of decoded tiles, 4 a pixel; by itself it keeps 32 MiB."""
        self._current().set_cache(openslide.OpenSlideCache(most_bytes))

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
        """Pickle as path and identity: the process that unpickles opens the same file anew."""
        return _reopen, (self.path, self._background, self._identity)

    def _current(self) -> openslide.OpenSlide:
        if self._process != os.getpid():
            # The parent's handle is kept, never closed or used: its locks may have been held while forking.
            check_all_unchanged(self._identity)
            self._inherited.append(self._slide)
            self._slide, self._process = _open(self.path), os.getpid()
        return self._slide

    def _read_anew(
        self,
        failed: openslide.OpenSlide,
        where: _Where,
        *,
        first: openslide.OpenSlideError,
    ) -> Premultiplied:
        """Try once more with a handle of its own: OpenSlide refuses every call on a handle after one error.

        The old handle is dropped, not closed: another thread may still be inside it.
        """
        check_all_unchanged(self._identity)
        fresh = _open(self.path)
        try:
            pixels = _pixels(fresh, where)
        except openslide.OpenSlideError:
            if self._slide is failed:
                self._slide = _open(self.path)
            (x, y), level, (width, height) = where
            told = without_part_names(str(first), self.path)
            raise unreadable(
                f"damaged at x {x}, y {y} (level {level}, {width}x{height} px): {told}"
            ) from None
        self._slide = fresh
        return pixels


def _properties(slide: openslide.OpenSlide) -> dict[str, str]:
    """Return the properties but for those whose name is no UTF-8: openslide-python cannot look them up."""
    found = {}
    for name in slide.properties:
        with suppress(KeyError):
            found[name] = slide.properties[name]
    return found


def _pixels(slide: openslide.OpenSlide, where: _Where) -> Premultiplied:
    corner, level, size = where
    return read_premultiplied(slide, corner, level, size=size)


def bounds_of(properties: Mapping[str, str], size: tuple[int, int]) -> Box:
    """Return the scanned part that `openslide.bounds-*` names, cut to the slide; else the whole slide."""
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


def _reopen(path: Path, background: Background, identity: SlideIdentity) -> OpenSlideReader:
    check_all_unchanged(identity)
    return OpenSlideReader(path, background=background)


def _open(path: Path) -> openslide.OpenSlide:
    try:
        return openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError:
        raise unreadable("no format that OpenSlide reads; convert it to a tiled pyramidal TIFF") from None
    except openslide.OpenSlideError as error:
        told = without_part_names(str(error), path)
        remedy = _CONVERT if _NOT_DECODED in told else "copy or export it again"
        raise unreadable(f"OpenSlide cannot open it ({told}); {remedy}") from None
    except OSError as error:
        raise unreadable(f"cannot be opened ({error.strerror or error})") from None

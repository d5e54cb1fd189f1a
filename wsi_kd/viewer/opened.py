"""One open slide as the viewer asks for it: geometry, DeepZoom tiles as JPEG, images of the glass."""

from pathlib import Path
from typing import Final, NamedTuple, Protocol, runtime_checkable

import numpy as np
import simplejpeg

from wsi_kd.core.errors import SlideProblem, WsiKdError
from wsi_kd.core.file_identity import FileIdentity
from wsi_kd.core.shapes import Pixels
from wsi_kd.slides.associated import associated_names, read_associated
from wsi_kd.slides.frame import SlideFrame, slide_center_nm
from wsi_kd.slides.icc import Color, Recolor, recolor
from wsi_kd.slides.identity import identity_of
from wsi_kd.slides.mpp import resolve_mpp
from wsi_kd.slides.protocol import Background, SlideReader
from wsi_kd.slides.reader import open_slide
from wsi_kd.viewer.deepzoom import DeepZoom, deep_zoom, plan_tile, read_zoom_tile

JPEG_QUALITY: Final = 85
GRAY: Final = 128
"""Stands for pixels that cannot be read."""
_PLAUSIBLE_MPP: Final = (0.05, 100.0)


class SlideFacts(NamedTuple):
    """What is known of a slide once it is open."""

    frame: SlideFrame
    """Its um/px are the metadata's; 0 where they tell none."""
    width_level0_px: int
    """Of the bounds."""
    height_level0_px: int
    zoom: DeepZoom


class Tile(NamedTuple):
    """One encoded tile."""

    jpeg: bytes
    damage: str
    """Why it is gray; empty for a tile that was read."""


@runtime_checkable
class Opened(Protocol):
    """An open slide, in this process or in one of its own; threads share it."""

    identity: FileIdentity
    facts: SlideFacts

    def tile(self, *, level: int, column: int, row: int) -> Tile:
        """Read one DeepZoom tile, which there must be; a damaged one is gray."""

    def associated_names(self) -> tuple[str, ...]:
        """Name the images of the glass."""

    def associated(self, name: str) -> bytes:
        """Read one of them as JPEG.

        Raises:
            SlideProblem: it cannot be read.
        """

    def close(self) -> None:
        """Release the file."""


class OpenSlide:
    """A slide that this process reads."""

    def __init__(self, path: Path, *, background: Background, color: Color) -> None:
        self.path = path
        self.identity: FileIdentity = identity_of(path)
        self._reader: SlideReader = open_slide(path, background=background)
        try:
            self.facts: SlideFacts = _facts(self._reader)
            self._recolor: Recolor | None = recolor(self._reader, color)
        except BaseException:
            self._reader.close()
            raise

    def tile(self, *, level: int, column: int, row: int) -> Tile:
        """Read one DeepZoom tile, which there must be; a damaged one is gray."""
        planned = plan_tile(self._reader, self.facts.zoom, level=level, column=column, row=row)
        try:
            pixels = read_zoom_tile(self._reader, planned)
        except SlideProblem as problem:
            return gray_tile(planned.tile_px, told(problem, self.path))
        except Exception as error:  # a damaged slide may make its reader raise anything
            return gray_tile(planned.tile_px, f"reading failed ({type(error).__name__})")
        return Tile(encode(pixels if self._recolor is None else self._recolor(pixels)), "")

    def associated_names(self) -> tuple[str, ...]:
        """Name the images of the glass."""
        return associated_names(self._reader)

    def associated(self, name: str) -> bytes:
        """Read one of them as JPEG.

        Raises:
            SlideProblem: it cannot be read.
        """
        return encode(read_associated(self._reader.path, name))

    def close(self) -> None:
        """Release the file."""
        self._reader.close()


def gray_tile(tile_px: tuple[int, int], damage: str) -> Tile:
    """Make a plain gray tile of width, height."""
    width, height = tile_px
    return Tile(encode(np.full((height, width, 3), GRAY, np.uint8)), damage)


def told(error: WsiKdError, path: Path | None) -> str:
    """Say in one line what is wrong with a file, by its name alone: folders may be named after people."""
    text = error.reason if isinstance(error, SlideProblem) else str(error)
    return " ".join((text if path is None else text.replace(str(path), path.name)).split())


def encode(pixels: Pixels) -> bytes:
    """Encode RGB pixels as JPEG."""
    content = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=JPEG_QUALITY, colorspace="RGB")
    return bytes(content)


def _facts(reader: SlideReader) -> SlideFacts:
    bounds, (width, height) = reader.bounds, reader.level_dimensions[0]
    mpp_x, mpp_y = _metadata_mpp(reader)
    origin = (bounds.x_level0_px, bounds.y_level0_px)
    frame = SlideFrame(origin, width, height, mpp_x, mpp_y, slide_center_nm(reader.properties))
    return SlideFacts(frame, bounds.width_level0_px, bounds.height_level0_px, deep_zoom(reader))


def _metadata_mpp(reader: SlideReader) -> tuple[float, float]:
    least, most = _PLAUSIBLE_MPP
    try:
        found = resolve_mpp(
            reader.properties, override=None, min_mpp=least, max_mpp=most, from_objective=True
        )
    except SlideProblem:
        return 0.0, 0.0
    return found.mpp_x, found.mpp_y

"""Slides behind a small protocol: RGB regions on the slide's own background, from any file that is known."""

from pathlib import Path

from wsi_kd.slides.formats import open_by_content
from wsi_kd.slides.ledger import LEDGER
from wsi_kd.slides.protocol import WHITE, Background, SlideReader

__all__ = ["WHITE", "Background", "SlideReader", "open_slide"]


def open_slide(path: Path, *, background: Background) -> SlideReader:
    """Open a slide; which reader it needs is told by its content, never by its name.

    Args:
        path: a file that OpenSlide, tifffile or Pillow reads, or a folder that is an OME-Zarr.
        background: what transparent pixels are composited on: the color in `openslide.background-color`
            (white where the slide names none), or always white.

    Raises:
        SlideProblem: unreadable, for a file that is absent, empty, of a foreign format or damaged;
            reader_crashed, for one that has killed a process that read it.
    """
    LEDGER.check(path)
    with LEDGER.reading(path):
        return open_by_content(path, background=background)

"""From a slide and its tile file to the pixels of tiles: read at `tile_mpp`, in the colors asked for."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from wsi_kd.core.shapes import Coords
from wsi_kd.settings.slides import SlidesSettings
from wsi_kd.slides.pyramid import plan_read
from wsi_kd.slides.reader import open_slide
from wsi_kd.slides.recolored_tiles import recolored
from wsi_kd.slides.tile_source import TileSource, open_tile_source


@contextmanager
def open_tiles(
    path: Path, coords: Coords, *, header: Mapping[str, Any], slides: SlidesSettings
) -> Iterator[TileSource]:
    """Open the slide and yield what reads its tiles, by whichever way is fastest for its file.

    Args:
        path: the slide.
        coords: the tiles that will be read.
        header: of the slide's tile file.
        slides: background and colors.

    Raises:
        SlideProblem: the slide cannot be opened, or its color profile is damaged.
    """
    with open_slide(path, background=slides.background) as reader:
        plan = plan_read(
            reader.level_downsamples,
            slide_mpp=header["slide_mpp"],
            tile_mpp=header["tile_mpp"],
            tile_px=header["tile_px"],
            mpp_tolerance=header["mpp_tolerance"],
        )
        with closing(open_tile_source(reader, plan, coords)) as source:
            yield recolored(source, reader, slides.color)

"""One slide's heatmap pictures: a picture with its color bar, and a pyramid."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from wsi_kd.core.errors import BadInput
from wsi_kd.inference.mappings import MappedTiles
from wsi_kd.report.heatmap import draw_heatmap
from wsi_kd.report.overlay import place_tiles
from wsi_kd.report.overlay_tiff import Overlay, write_overlay_tiff
from wsi_kd.slides.fingerprint import slide_fingerprint
from wsi_kd.slides.protocol import unreadable
from wsi_kd.slides.pyramid import read_thumbnail
from wsi_kd.slides.reader import SlideReader, open_slide
from wsi_kd.steps.heatmap_files import Choice, Pictured, Scored

PICTURE_PX: Final = 1200
"""Longer edge of a picture unless told otherwise."""
MAX_PICTURE_PX: Final = 2**25
"""Pixels of the largest picture: about 0.7 GB of memory while it is drawn."""
MAX_EDGE_PX: Final = 2**15
SAME_MPP: Final = 1 + 1e-6


@contextmanager
def opened(scored: Scored) -> Iterator[SlideReader]:
    """Open the slide's file, if it is the one that was scored.

    Raises:
        SlideProblem: nobody said where it is, it cannot be read, or it is another file.
    """
    path, expected = scored.drawn.path, scored.drawn.header.get("fingerprint", "")
    if path is None:
        raise unreadable("nobody said where its file is; give --manifest, --slides-dir or --slide")
    with open_slide(path, background=scored.viewed.background) as reader:
        if expected and slide_fingerprint(path) != expected:
            raise unreadable(f"{path.name} is not the file that was scored; give that one")
        yield reader


def check_resolutions(scored: Scored, choice: Choice) -> Pictured:
    """Return the resolutions of the pictures.

    Raises:
        BadInput: finer than the slide, coarser than all of it, or too large to be held; with what would do.
    """
    _, _, width, height = scored.bounds
    longer_um = max(width, height) * scored.slide_mpp
    for option, value in (("--um-per-px", choice.um_per_px), ("--tiff-um-per-px", choice.tiff_um_per_px)):
        if value is not None and value * SAME_MPP < scored.slide_mpp:
            raise BadInput(
                f"{option} {value:g}: the slide has {scored.slide_mpp:.4g} um/px; nothing is finer"
            )
        if value is not None and value > longer_um:
            raise BadInput(f"{option} {value:g}: the whole slide is {longer_um:.4g} um across; give less")
    if choice.um_per_px is None:
        return Pictured(max(scored.slide_mpp, longer_um / PICTURE_PX), choice.tiff_um_per_px)
    finest = max(math.sqrt(width * height / MAX_PICTURE_PX) * scored.slide_mpp, longer_um / MAX_EDGE_PX)
    if choice.um_per_px < finest:
        across, down = (round(length * scored.slide_mpp / choice.um_per_px) for length in (width, height))
        raise BadInput(
            f"--um-per-px {choice.um_per_px:g}: {across} x {down} pixels are too many for one picture; give "
            f"{_rounded_up(finest):g} or more for this slide, or --tiff: a pyramid has no limit"
        )
    return Pictured(choice.um_per_px, choice.tiff_um_per_px)


def write_pictures(
    paths: Mapping[str, Path],
    reader: SlideReader,
    scored: Scored,
    *,
    mapped: Sequence[MappedTiles],
    um_per_px: float,
    colormap: str,
) -> None:
    """Write each mapping's picture with its color bar to the path of its key; the slide is read once."""
    thumbnail = read_thumbnail(
        reader, slide_mpp=scored.slide_mpp, thumbnail_mpp=um_per_px, color=scored.viewed.color
    )
    for one in mapped:
        draw_heatmap(
            paths[one.key],
            pixels=thumbnail.pixels,
            coords=scored.tiles.coords,
            mapped=one,
            tile_level0_px=scored.tiles.tile_level0_px,
            level0_px_per_px=thumbnail.level0_px_per_px,
            origin=thumbnail.origin,
            title=scored.drawn.slide_id,
            slide_mpp=scored.slide_mpp,
            colormap=colormap,
        )


def write_pyramid(
    path: Path, reader: SlideReader, scored: Scored, *, mapped: MappedTiles, um_per_px: float, colormap: str
) -> None:
    """Write one mapping's pyramid."""
    tiles = place_tiles(scored.tiles.coords, mapped.scores, tile_level0_px=scored.tiles.tile_level0_px)
    overlay = Overlay(
        scored.drawn.slide_id,
        tiles,
        mapped,
        scored.slide_mpp,
        max(um_per_px, scored.slide_mpp),
        color=scored.viewed.color,
        colormap=colormap,
    )
    write_overlay_tiff(path, reader, overlay)


def _rounded_up(value: float) -> float:
    """Round to three digits, never down."""
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    return round(math.ceil(value / step - 1e-9) * step, 12)

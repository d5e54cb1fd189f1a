"""The colored slide as a pyramidal, tiled OME-TIFF, for viewers that open slides.

Every level is drawn anew from slide and scores, tile by tile: colors are those of area averages at that
level's own resolution, and memory does not grow with the slide.

Source: https://docs.openmicroscopy.org/ome-model/latest/ome-tiff/specification.html (pyramids in SubIFDs)
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
import tifffile

from wsi_kd.core.files import publish
from wsi_kd.core.shapes import Pixels
from wsi_kd.inference.mappings import MappedTiles
from wsi_kd.report.overlay import COLORMAPS, PlacedTiles, Window, blend, palette, window_map
from wsi_kd.report.overlay_xml import overlay_xml
from wsi_kd.slides.icc import Color, recolor
from wsi_kd.slides.pyramid import plan_read, read_tile
from wsi_kd.slides.reader import SlideReader

TILE_PX = 512
JPEG_QUALITY = 90
UM_PER_CM = 10_000.0
CLASSIC_BYTES = 2**32 - 2**25
"""What a TIFF with 32-bit offsets holds; pixels are counted as if they were not compressed."""


class Overlay(NamedTuple):
    """What is drawn."""

    slide_id: str
    tiles: PlacedTiles
    mapped: MappedTiles
    slide_mpp: float
    um_per_px: float
    """Of the finest level; not below `slide_mpp`."""
    color: Color = "as_stored"
    colormap: str = COLORMAPS[0]


class Level(NamedTuple):
    """One level of the pyramid."""

    width_px: int
    height_px: int
    level0_px_per_px: float


def overlay_levels(width_level0_px: int, height_level0_px: int, *, level0_px_per_px: float) -> list[Level]:
    """List the levels, each half as fine as the one before, down to one that fits a tile.

    >>> [level[:2] for level in overlay_levels(4288, 3136, level0_px_per_px=4.0)]
    [(1072, 784), (536, 392), (268, 196)]
    """
    levels: list[Level] = []
    ratio = level0_px_per_px
    while not levels or max(levels[-1][:2]) > TILE_PX:
        width, height = (math.ceil(length / ratio - 1e-9) for length in (width_level0_px, height_level0_px))
        levels.append(Level(max(1, width), max(1, height), ratio))
        ratio *= 2
    return levels


def write_overlay_tiff(path: Path, reader: SlideReader, overlay: Overlay) -> None:
    """Write the slide's bounds, pale gray and colored by score, as JPEG tiles.

    Its pixel (0, 0) lies at the corner of the slide's bounds. Equal arguments give equal bytes.

    Raises:
        BadInput: an unknown colormap.
        SlideProblem: unreadable, when a region of the slide is damaged.
        RunFailed: the file cannot be written.
    """
    _, _, width, height = reader.bounds
    ratio = overlay.um_per_px / overlay.slide_mpp
    levels = overlay_levels(width, height, level0_px_per_px=ratio)
    raw_bytes = 3 * sum(level.width_px * level.height_px for level in levels)
    described = overlay_xml(overlay.slide_id, overlay.mapped, levels[0][:2], um_per_px=overlay.um_per_px)
    with (
        publish(path) as temporary,
        tifffile.TiffWriter(temporary, bigtiff=raw_bytes > CLASSIC_BYTES, ome=False) as writer,
    ):
        for index, level in enumerate(levels):
            per_cm = UM_PER_CM / (overlay.slide_mpp * level.level0_px_per_px)
            writer.write(
                _tiles(reader, overlay, level),
                shape=(level.height_px, level.width_px, 3),
                dtype=np.uint8,
                tile=(TILE_PX, TILE_PX),
                compression="jpeg",
                photometric="ycbcr",
                subsampling=(1, 1),
                subifds=len(levels) - 1 if index == 0 else None,
                subfiletype=int(index > 0),
                description=described if index == 0 else None,
                software=False,
                metadata=None,
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
            )


def _tiles(reader: SlideReader, overlay: Overlay, level: Level) -> Iterator[bytes]:
    """Yield the JPEG stream of every tile, row by row."""
    colors, change = palette(overlay.colormap), recolor(reader, overlay.color)
    for top in range(0, level.height_px, TILE_PX):
        for left in range(0, level.width_px, TILE_PX):
            pixels = _read(reader, level, corner_px=(left, top))
            pixels = pixels if change is None else change(pixels)
            corner = (
                reader.bounds[0] + left * level.level0_px_per_px,
                reader.bounds[1] + top * level.level0_px_per_px,
            )
            averages = window_map(overlay.tiles, Window(corner, level.level0_px_per_px, pixels.shape[:2]))
            drawn = blend(pixels, averages, colors=colors, ends=(overlay.mapped.vmin, overlay.mapped.vmax))
            yield bytes(
                imagecodecs.jpeg8_encode(
                    drawn, level=JPEG_QUALITY, colorspace="RGB", outcolorspace="YCBCR", subsampling="444"
                )
            )


def _read(reader: SlideReader, level: Level, *, corner_px: tuple[int, int]) -> Pixels:
    """Read a whole tile; one at the right or lower edge goes on past the bounds, where viewers cut it.

    Of a level smaller than a tile no more is read than a square around it: at a few pixels for the whole
    slide a tile's width would be many times the slide's.
    """
    x, y, _, _ = reader.bounds
    edge_px = min(TILE_PX, max(level.width_px, level.height_px))
    plan = plan_read(
        reader.level_downsamples,
        slide_mpp=1.0,
        tile_mpp=level.level0_px_per_px,
        tile_px=edge_px,
        mpp_tolerance=1e-6,
    )
    pixels = read_tile(
        reader,
        x_level0_px=x + round(corner_px[0] * level.level0_px_per_px),
        y_level0_px=y + round(corner_px[1] * level.level0_px_per_px),
        plan=plan,
    )
    beyond = TILE_PX - edge_px
    return pixels if not beyond else np.pad(pixels, ((0, beyond), (0, beyond), (0, 0)), mode="edge")

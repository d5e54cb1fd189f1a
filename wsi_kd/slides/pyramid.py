"""Level arithmetic: which level is read, how many pixels, and how they become exactly `tile_mpp`."""

import math
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.core.shapes import Pixels
from wsi_kd.slides.icc import Color, recolor
from wsi_kd.slides.reader import SlideReader

LEVEL_SLACK = 0.01
"""A level this share coarser than wanted is still fine enough: stored sizes are rounded (4.0036 for 4)."""
BLOCK_PX = 2048
"""Edge of the largest region read at once."""
MAX_THUMBNAIL_PX = 2**25
"""Pixels of the largest thumbnail; it grows coarser instead (a 45 mm square at 8 um/px just fits)."""
MAX_READ_PX = 2**34
"""Pixels read for a thumbnail or tile at most; more means a lying header or a scan without overviews."""


class ReadPlan(NamedTuple):
    """How a tile is read: `read_px` pixels of `level` cover `footprint_px` of them, resized to `tile_px`."""

    level: int
    read_px: int
    tile_px: int
    tile_level0_px: float
    footprint_px: float
    """Edge of the tile in pixels of `level`, not rounded: tile_px x tile_mpp / (slide_mpp x downsample)."""


class Thumbnail(NamedTuple):
    """An overview of the bounds; pixel (row, column) starts at origin + (column, row) x level0_px_per_px."""

    pixels: Pixels
    level0_px_per_px: float
    origin: tuple[int, int]


class OverviewPlan(NamedTuple):
    """How an overview is read: all of `level` within the bounds, shrunk by `scale`."""

    level: int
    width_px: int
    """Of the bounds, in pixels of `level`."""
    height_px: int
    scale: float
    """Edge of an overview's pixel in pixels of `level`, not rounded."""
    level0_px_per_px: float
    origin: tuple[int, int]
    """Corner of the bounds in level-0 pixels."""


def plan_read(
    level_downsamples: tuple[float, ...],
    *,
    slide_mpp: float,
    tile_mpp: float,
    tile_px: int,
    mpp_tolerance: float,
) -> ReadPlan:
    """Choose the nearest finer level for tiles of exactly `tile_mpp`.

    Args:
        level_downsamples: of every level, the first is 1.
        slide_mpp: um/px of level 0.
        tile_mpp: um/px that tiles shall have.
        tile_px: edge of a tile in pixels at `tile_mpp`.
        mpp_tolerance: share by which a slide may be coarser than `tile_mpp` and is then enlarged.

    Raises:
        SlideProblem: too_coarse, when `slide_mpp` is above `tile_mpp x (1 + mpp_tolerance)`.
    """
    if slide_mpp > tile_mpp * (1 + mpp_tolerance):
        raise SlideProblem(
            SlideStatus.TOO_COARSE,
            f"scanned at {slide_mpp:.4g} um/px, tiles need {tile_mpp:g} (tolerance {mpp_tolerance:.0%}); "
            "raise tile.tile_mpp or tile.mpp_tolerance, or correct slide_mpp",
        )
    level = nearest_finer(level_downsamples, tile_mpp / slide_mpp)
    tile_level0_px = tile_px * tile_mpp / slide_mpp
    footprint_px = tile_level0_px / level_downsamples[level]
    return ReadPlan(level, _covering(footprint_px), tile_px, tile_level0_px, footprint_px)


def read_tile(reader: SlideReader, *, x_level0_px: int, y_level0_px: int, plan: ReadPlan) -> Pixels:
    """Read one tile, shape (tile_px, tile_px, 3): the mean over each pixel's exact footprint.

    Raises:
        SlideProblem: unreadable, when the region is damaged.
    """
    pixels = read_reduced(
        reader,
        corner=(x_level0_px, y_level0_px),
        level=plan.level,
        size_px=(plan.read_px, plan.read_px),
        scale=plan.footprint_px / plan.tile_px,
    )
    return np.ascontiguousarray(pixels[: plan.tile_px, : plan.tile_px])


def read_thumbnail(
    reader: SlideReader, *, slide_mpp: float, thumbnail_mpp: float, color: Color = "as_stored"
) -> Thumbnail:
    """Read the slide's bounds at `thumbnail_mpp`, coarser where more than `MAX_THUMBNAIL_PX` would result.

    The thumbnail is never finer than level 0, and its pixels are square and exact: its last column and row
    may end up to half a pixel before or past the bounds. `color` srgb shows it by the slide's ICC profile.

    Raises:
        SlideProblem: unreadable, when a region is damaged, there are more pixels than can be read, or the
            color profile is damaged.
    """
    change, plan = recolor(reader, color), plan_overview(reader, slide_mpp=slide_mpp, mpp=thumbnail_mpp)
    size_px = (plan.width_px, plan.height_px)
    pixels = read_reduced(reader, corner=plan.origin, level=plan.level, size_px=size_px, scale=plan.scale)
    return Thumbnail(pixels if change is None else change(pixels), plan.level0_px_per_px, plan.origin)


def plan_overview(reader: SlideReader, *, slide_mpp: float, mpp: float) -> OverviewPlan:
    """Choose the level of an overview of `mpp`, or coarser where it would have more than `MAX_THUMBNAIL_PX`.

    Raises:
        SlideProblem: unreadable, where that level has more pixels than can be read.
    """
    x, y, width, height = reader.bounds
    smallest = math.sqrt(width * height / MAX_THUMBNAIL_PX)
    ratio = max(mpp / slide_mpp, smallest, 1.0)
    level = nearest_finer(reader.level_downsamples, ratio)
    downsample = reader.level_downsamples[level]
    width_px, height_px = (_covering(length / downsample) for length in (width, height))
    _check_readable(level, (width_px, height_px))
    return OverviewPlan(level, width_px, height_px, ratio / downsample, ratio, (x, y))


def nearest_finer(level_downsamples: tuple[float, ...], ratio: float) -> int:
    """Return the coarsest level that is as fine as `ratio` (level-0 pixels a pixel), but for LEVEL_SLACK."""
    fine_enough = [
        level for level, value in enumerate(level_downsamples) if value <= ratio * (1 + LEVEL_SLACK)
    ]
    return max(fine_enough, key=lambda level: level_downsamples[level], default=0)


def _covering(length_px: float) -> int:
    return max(1, math.ceil(length_px - 1e-6))


def read_reduced(
    reader: SlideReader, *, corner: tuple[int, int], level: int, size_px: tuple[int, int], scale: float
) -> Pixels:
    """Read a region of one level and shrink it by `scale` (level pixels a pixel); in blocks if large.

    Args:
        reader: the slide.
        corner: x, y in level-0 pixels.
        level: the level that is read.
        size_px: width, height in pixels of that level.
        scale: edge of a resulting pixel in pixels of that level.

    Raises:
        SlideProblem: unreadable, when the region is damaged or larger than can be read.
    """
    width, height = size_px
    _check_readable(level, size_px)
    if width <= BLOCK_PX and height <= BLOCK_PX:
        x, y = corner
        pixels = reader.read_region(
            x_level0_px=x, y_level0_px=y, level=level, width_px=width, height_px=height
        )
        return resize_by(pixels, scale)
    factor = max(1, min(int(scale), BLOCK_PX))
    return resize_by(
        _read_blocks(reader, corner=corner, level=level, size_px=size_px, factor=factor), scale / factor
    )


def _check_readable(level: int, size_px: tuple[int, int]) -> None:
    width, height = size_px
    if width * height > MAX_READ_PX:
        reason = (
            f"no level coarse enough: level {level} has {width}x{height} px; export it as a pyramidal TIFF"
        )
        raise SlideProblem(SlideStatus.UNREADABLE, reason)


def _read_blocks(
    reader: SlideReader, *, corner: tuple[int, int], level: int, size_px: tuple[int, int], factor: int
) -> Pixels:
    """Read a large region in blocks, each reduced by the whole number `factor` (means of factor x factor)."""
    width, height = (-(-length // factor) for length in size_px)
    downsample = reader.level_downsamples[level]
    step = BLOCK_PX // factor
    reduced = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, step):
        for left in range(0, width, step):
            rows, columns = min(step, height - top), min(step, width - left)
            block = reader.read_region(
                x_level0_px=corner[0] + round(left * factor * downsample),
                y_level0_px=corner[1] + round(top * factor * downsample),
                level=level,
                width_px=columns * factor,
                height_px=rows * factor,
            )
            small = cv2.resize(block, (columns, rows), interpolation=cv2.INTER_AREA) if factor > 1 else block
            reduced[top : top + rows, left : left + columns] = small
    return reduced


def resize_by(pixels: Pixels, scale: float) -> UInt8[np.ndarray, "rows columns 3"]:
    """Shrink by exactly `scale`: area means over fractional footprints.

    cv2 keeps the factor as it is only where no target size is given, and returns the pixels untouched where
    both sizes are equal; then they are doubled first, which leaves the means as they are.
    """
    if scale == 1.0:
        return pixels
    height, width = (max(1, round(length / scale)) for length in pixels.shape[:2])
    interpolation = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    if min(pixels.shape[:2]) / scale < 1:
        return np.asarray(cv2.resize(pixels, (width, height), interpolation=interpolation))
    if (height, width) == pixels.shape[:2]:
        pixels, scale = pixels.repeat(2, axis=0).repeat(2, axis=1), 2 * scale
    return np.asarray(cv2.resize(pixels, None, fx=1 / scale, fy=1 / scale, interpolation=interpolation))

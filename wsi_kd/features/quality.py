"""What is measured on each tile's pixels, so that bad tiles can be told from good ones: columns of a file.

All measures look at the tile as it is read, before any stain normalization, and at fixed scales in um, so
that tiles of other sizes and resolutions compare.
"""

import math
from collections.abc import Sequence
from enum import IntEnum
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Int64, UInt8

from wsi_kd.core.shapes import Pixels, TileBatch
from wsi_kd.features.quality_columns import TileMeasures, TileValues
from wsi_kd.tissue.optical_density import GlassColor, density_color
from wsi_kd.tissue.pen import PenColor, pen_pixels

SHARPNESS_UM = 1.0
"""Pixel size at which sharpness and background are judged (never finer than the tile itself)."""
PEN_UM = 8.0
"""Pixel size at which pen is judged: that of the overview, where its colors were measured."""
NOISE_DENSITY = 0.03
"""Optical density that counts as noise in the sharpness: blank tiles come out smooth, not sharp."""
GLASS_DENSITY = 0.1
"""A pixel is background where no channel absorbs more than this over the glass: a tenth of the light."""

MIN_EDGE_PX = 4
"""A tile is never reduced below this many pixels."""
COLORS = 3
TILES_A_CALL = 4
"""Tiles that OpenCV is given at once: calls cost little, and what they work on stays in the cache."""

Planes = UInt8[np.ndarray, "tiles height width"]
"""One color of several tiles."""


class Fate(IntEnum):
    """What becomes of a tile; all but kept ones are left out before they are encoded."""

    KEPT = 0
    DAMAGED = 1
    PEN = 2
    BACKGROUND = 3
    BLURRED = 4


class QualityCheck(NamedTuple):
    """How tiles are measured, and what they must reach to be encoded."""

    tile_mpp: float
    glass: GlassColor
    pen_colors: tuple[PenColor, ...]
    min_sharpness: float
    max_pen_fraction: float
    max_background_fraction: float


def fates(measures: TileMeasures, check: QualityCheck) -> Int64[np.ndarray, "tiles"]:
    """Return the `Fate` of each tile; of several faults pen counts first, then background, then blur."""
    faults = (
        measures.pen_fraction > check.max_pen_fraction,
        measures.background_fraction > check.max_background_fraction,
        measures.sharpness < check.min_sharpness,
    )
    return np.select(faults, (Fate.PEN, Fate.BACKGROUND, Fate.BLURRED), default=Fate.KEPT).astype(np.int64)


def measure_tiles(tiles: Sequence[Pixels] | TileBatch, check: QualityCheck) -> TileMeasures:
    """Measure tiles of one size.

    Each is reduced to pixels of about `SHARPNESS_UM` (a whole factor, area means). With d the optical
    density of the green channel there, which eosin, hematoxylin and DAB all take, and L d its Laplacian,

        sharpness = std(L d) / (std(d) + NOISE_DENSITY)

    Twice as much stain doubles both standard deviations, so the quotient tells how fine the detail is and
    not how strong; it falls as the tile is blurred. (The variance of the Laplacian: Pech-Pacheco et al.,
    Diatom autofocusing in brightfield microscopy, ICPR 2000; here normalized.) A tile without contrast gets
    a value near 0, as glass and mucus do: look at `background_fraction` beside it.

    Args:
        tiles: pixels of each.
        check: their resolution, the color of the slide's bare glass, and inks that are looked for.
    """
    if not len(tiles):
        return TileMeasures(*(np.zeros(0, np.float32) for _ in TileMeasures._fields))
    small = _reduced_planes(tiles, SHARPNESS_UM / check.tile_mpp)
    coarse = [_reduced(plane, PEN_UM / max(SHARPNESS_UM, check.tile_mpp)) for plane in small]
    color = density_color(cv2.merge([_tall(plane) for plane in coarse]), glass=check.glass)
    pen = pen_pixels(color, colors=check.pen_colors)
    return TileMeasures(
        sharpness=_sharpness(small[1], check.glass),
        pen_fraction=pen.reshape(len(tiles), -1).mean(axis=1, dtype=np.float32),
        background_fraction=_background(small, check.glass),
    )


def _reduced_planes(
    tiles: Sequence[Pixels] | TileBatch, factor: float
) -> list[UInt8[np.ndarray, "tiles rows columns"]]:
    """Shrink the three colors, each by itself, which OpenCV does fastest, a few tiles at a time."""
    height, width = tiles[0].shape[:2]
    whole = _whole_factor(factor, height, width)
    rows, columns = height // whole, width // whole
    even = np.asarray(tiles)[:, : rows * whole, : columns * whole]
    reduced = [np.empty((len(tiles), rows, columns), np.uint8) for _ in range(COLORS)]
    room = [np.empty((TILES_A_CALL * rows * whole, columns * whole), np.uint8) for _ in range(COLORS)]
    for at in range(0, len(tiles), TILES_A_CALL):
        few = _tall(np.ascontiguousarray(even[at : at + TILES_A_CALL]))
        colors = cv2.split(few, [color[: len(few)] for color in room])
        for color, plane in zip(colors, reduced, strict=True):
            out = _tall(plane[at : at + TILES_A_CALL])
            cv2.resize(color, out.shape[::-1], dst=out, interpolation=cv2.INTER_AREA)
    return reduced


def _sharpness(green: Planes, glass: GlassColor) -> TileValues:
    table, found = _green_table(glass[1]), np.empty(len(green), np.float32)
    density, detail = (np.empty(green.shape[1:], np.float32) for _ in range(2))
    for number, plane in enumerate(green):
        cv2.LUT(plane, table, dst=density)
        cv2.Laplacian(density, cv2.CV_32F, dst=detail, ksize=1, borderType=cv2.BORDER_REFLECT_101)
        found[number] = _spread(detail) / (_spread(density) + NOISE_DENSITY)
    return found


def _background(planes: Sequence[Planes], glass: GlassColor) -> TileValues:
    bright, *others = (plane >= level for plane, level in zip(planes, _dimmest(glass), strict=True))
    for other in others:
        bright &= other
    pixels = bright[0].size
    return np.array([cv2.countNonZero(tile) / pixels for tile in bright.view(np.uint8)], np.float32)


def _whole_factor(factor: float, height: int, width: int) -> int:
    """Return the whole factor nearest to `factor` that leaves `MIN_EDGE_PX` pixels."""
    return max(1, min(round(factor), min(height, width) // MIN_EDGE_PX))


def _reduced(plane: Planes, factor: float) -> UInt8[np.ndarray, "tiles rows columns"]:
    """Shrink by means of areas of whole pixels; what is left over at the right and below is not seen."""
    tiles, height, width = plane.shape
    whole = _whole_factor(factor, height, width)
    if whole == 1:
        return plane
    rows, columns = height // whole, width // whole
    even = _tall(np.ascontiguousarray(plane[:, : rows * whole, : columns * whole]))
    small = cv2.resize(even, (columns, tiles * rows), interpolation=cv2.INTER_AREA)
    return np.asarray(small).reshape(tiles, rows, columns)


def _tall(
    tiles: UInt8[np.ndarray, "tiles height width *color"],
) -> UInt8[np.ndarray, "rows width *color"]:
    """See tiles as one image, one below the other."""
    return tiles.reshape(-1, *tiles.shape[2:])


@cache
def _green_table(glass: int) -> Float32[np.ndarray, "levels"]:
    light = np.maximum(np.arange(256, dtype=np.float32), 1)
    return np.log(np.float32(max(glass, 1)) / light)


@cache
def _dimmest(glass: GlassColor) -> tuple[int, int, int]:
    red, green, blue = (math.ceil(channel * math.exp(-GLASS_DENSITY)) for channel in glass)
    return red, green, blue


def _spread(values: Float32[np.ndarray, "height width"]) -> float:
    """Return the standard deviation; from mean and norm, three times as fast as cv2.meanStdDev."""
    mean: float = cv2.mean(values)[0]
    return math.sqrt(max(0.0, cv2.norm(values) ** 2 / values.size - mean**2))

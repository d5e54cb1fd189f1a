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
from wsi_kd.tissue.optical_density import WHITE, GlassColor, density_color
from wsi_kd.tissue.pen import PenColor, pen_pixels

UNKNOWN = -1.0
"""Value of a measure that was not taken: features of other programs, tiles of another version."""
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

TileValues = Float32[np.ndarray, "tiles"]


class TileQuality(NamedTuple):
    """One value a tile; `UNKNOWN` where a measure was not taken."""

    tissue_fraction: TileValues
    """Share of the tile inside the tissue polygons, from the tile file."""
    sharpness: TileValues
    """How fine the detail is; see `measure_tiles`."""
    pen_fraction: TileValues
    """Share of the tile in the colors of a pen."""
    background_fraction: TileValues
    """Share of the tile that is as bright as the glass."""


class TileMeasures(NamedTuple):
    """What the pixels of some tiles tell: the columns of `TileQuality` but the tissue's."""

    sharpness: TileValues
    pen_fraction: TileValues
    background_fraction: TileValues


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


def unknown_quality(tiles: int) -> TileQuality:
    """Return the columns of tiles that nobody measured."""
    return TileQuality(*(np.full(tiles, UNKNOWN, np.float32) for _ in TileQuality._fields))


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
    small = [_reduced(pixels, SHARPNESS_UM / check.tile_mpp) for pixels in tiles]
    coarse = np.concatenate(
        [_reduced(pixels, PEN_UM / max(SHARPNESS_UM, check.tile_mpp)) for pixels in small]
    )
    pen = pen_pixels(density_color(coarse, glass=check.glass), colors=check.pen_colors)
    return TileMeasures(
        sharpness=np.array([_sharpness(pixels, check.glass) for pixels in small], np.float32),
        pen_fraction=pen.reshape(len(tiles), -1).mean(axis=1, dtype=np.float32),
        background_fraction=np.array([_background(pixels, check.glass) for pixels in small], np.float32),
    )


def _sharpness(pixels: Pixels, glass: GlassColor) -> float:
    density = cv2.LUT(cv2.extractChannel(pixels, 1), _green_table(glass[1]))
    detail = cv2.Laplacian(density, cv2.CV_32F, ksize=1, borderType=cv2.BORDER_REFLECT_101)
    return _spread(detail) / (_spread(density) + NOISE_DENSITY)


def _background(pixels: Pixels, glass: GlassColor) -> float:
    return cv2.countNonZero(cv2.inRange(pixels, _dimmest(glass), WHITE)) / pixels[..., 0].size


def _reduced(pixels: Pixels, factor: float) -> UInt8[np.ndarray, "rows columns 3"]:
    """Shrink by the whole factor nearest to `factor`, but not below `MIN_EDGE_PX` pixels."""
    height, width = pixels.shape[:2]
    whole = max(1, min(round(factor), min(height, width) // MIN_EDGE_PX))
    if whole == 1:
        return pixels
    size = (width // whole, height // whole)
    even = pixels[: size[1] * whole, : size[0] * whole]
    return np.asarray(cv2.resize(even, size, interpolation=cv2.INTER_AREA))


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

"""Light -> optical density and its color, which does not depend on how much of a stain or an ink there is.

Beer-Lambert: density d = -ln(I / I0) a channel adds up over all that lies in the path of the light. The
hue-saturation-density model splits it into a mean density D and a chromaticity (c_x, c_y) that stays the same
when a stain grows stronger: van der Laak et al., Hue-saturation-density (HSD) model for stain recognition in
digital images from transmitted light microscopy, Cytometry 39 (2000), equations 3 to 5.
"""

from functools import cache
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
from jaxtyping import Float32, Int64

from wsi_kd.core.shapes import Pixels
from wsi_kd.slides.overview import PixelRows
from wsi_kd.tissue.strips import strips

WHITE = (255, 255, 255)
MIN_DENSITY = 1e-3
"""Thinner than this nothing has a color: the quotients are taken as if it were this dense."""
GLASS_SATURATION = 0.12
GLASS_VALUE = 0.6
MIN_GLASS_SHARE = 0.005
_LEVELS = 256

GlassColor: TypeAlias = tuple[int, int, int]
Plane = Float32[np.ndarray, "height width"]
_MAX_GLASS_RANGE = (GLASS_SATURATION * np.arange(_LEVELS)).astype(np.uint8)
"""Largest difference of the channels of glass, by the brightest of them."""


class Light(NamedTuple):
    """What an overview tells of the light that it was taken with."""

    luminance: float
    """Median of the pixels, 0 to 1: low in dark field."""
    glass: GlassColor


class DensityColor(NamedTuple):
    """Mean density over the channels and its chromaticity, one value a pixel.

    Pure red ink lies near c_x -0.9, green near 1.1, blue near 0.8; eosin near -0.7 and hematoxylin near 0.1
    with c_y above 0.25, DAB near -0.3 with c_y around -0.1; what is black or gray lies at the origin.
    """

    density: Plane
    c_x: Plane
    """d_R / D - 1: below 0 where less than a third of the absorption is in the red channel."""
    c_y: Plane
    """(d_G - d_B) / (sqrt(3) D)."""


def density_color(pixels: Pixels, *, glass: GlassColor) -> DensityColor:
    """Split pixels into density and chromaticity; `glass` is the color (RGB) of the light without tissue."""
    planes = DensityColor(*(np.empty(pixels.shape[:2], np.float32) for _ in DensityColor._fields))
    for rows in strips(pixels.shape):
        red, green, blue = cv2.split(cv2.LUT(pixels[rows], _table(glass)))
        density = (red + green + blue) / np.float32(3)
        divisor = np.maximum(density, np.float32(MIN_DENSITY))
        planes.density[rows] = density
        planes.c_x[rows] = red / divisor - 1
        planes.c_y[rows] = (green - blue) / (np.float32(np.sqrt(3)) * divisor)
    return planes


def mean_density(pixels: Pixels, *, glass: GlassColor) -> Plane:
    """Return the density of `density_color` alone."""
    density = np.empty(pixels.shape[:2], np.float32)
    for rows in strips(pixels.shape):
        red, green, blue = cv2.split(cv2.LUT(pixels[rows], _table(glass)))
        density[rows] = (red + green + blue) / np.float32(3)
    return density


def measure_light(pixels: PixelRows) -> Light:
    """Measure how bright an overview is, and the color of bare glass: the median of what is bright and gray.

    The glass counts as white where fewer than `MIN_GLASS_SHARE` of the pixels are that bright (no glass in
    sight, or fluorescence).
    """
    gray = np.zeros(_LEVELS, np.int64)
    glass = np.zeros((3, _LEVELS), np.int64)
    for rows in strips(pixels.shape):
        part = pixels[rows]
        gray += np.bincount(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY).ravel(), minlength=_LEVELS)
        channels = red, green, blue = cv2.split(part)
        value = np.maximum(np.maximum(red, green), blue)
        range_ = value - np.minimum(np.minimum(red, green), blue)
        bright = (value >= GLASS_VALUE * (_LEVELS - 1)) & (range_ <= _MAX_GLASS_RANGE[value])
        glass += [np.bincount(channel[bright], minlength=_LEVELS) for channel in channels]
    luminance = float(np.mean(middle_levels(gray))) / (_LEVELS - 1)
    if glass[0].sum() < MIN_GLASS_SHARE * gray.sum():
        return Light(luminance, WHITE)
    first, second, third = (int(sum(middle_levels(channel)) / 2) for channel in glass)
    return Light(luminance, (first, second, third))


def middle_levels(counts: Int64[np.ndarray, "levels"]) -> tuple[int, int]:
    """Return the two middle ones of the counted levels in order, whose mean is their median."""
    below, pixels = np.cumsum(counts), int(counts.sum())
    low, high = np.searchsorted(below, ((pixels - 1) // 2, pixels // 2), side="right").tolist()
    return low, high


@cache
def _table(glass: GlassColor) -> Float32[np.ndarray, "1 levels 3"]:
    """Density of every level of every channel; brighter than the glass counts as the glass."""
    light = np.maximum(np.arange(_LEVELS, dtype=np.float32), 1)[:, None]
    return np.maximum(np.log(np.asarray(glass, np.float32) / light), 0)[None]

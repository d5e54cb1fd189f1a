"""Which pixels tell of the stains: neither glass nor pen, and how much light the glass lets through."""

import numpy as np

from wsi_kd.features.stain.fits import CannotFit, DensityRows, PixelRows, Triple
from wsi_kd.tissue.optical_density import density_color
from wsi_kd.tissue.pen import PEN_COLORS, pen_pixels

MIN_DENSITY = 0.15
"""Macenko's beta: a pixel with less optical density, the mean of its channels, is taken for glass. Of single
channels it would drop pure eosin, which hardly touches red."""
MIN_PIXELS = 1_000
"""Fewer stained pixels than this say nothing reliable of a slide."""
BRIGHTEST_SHARE = 0.05
MIN_GLASS_LEVEL = 200
MAX_GLASS_SATURATION = 0.08
WHITE = 255.0


class StainedPixels:
    """The stained pixels of a sample: their levels, their optical density and the light through the glass."""

    def __init__(self, pixels: PixelRows) -> None:
        """Keep the stained pixels of a sample.

        Raises:
            CannotFit: fewer than `MIN_PIXELS` of them are stained.
        """
        self.light = glass_light(pixels)
        density = optical_density(pixels, light=self.light)
        kept = (density.mean(axis=1) >= MIN_DENSITY) & ~_is_pen(pixels, light=self.light)
        if np.count_nonzero(kept) < MIN_PIXELS:
            raise CannotFit(f"{np.count_nonzero(kept)} stained pixels in {len(pixels)}, {MIN_PIXELS} needed")
        self.pixels = pixels[kept]
        self.density = density[kept]


def glass_light(pixels: PixelRows) -> Triple:
    """Estimate the light through bare glass: the median color of the brightest twentieth of the pixels.

    Returns:
        Levels of red, green and blue; white where the brightest pixels are dark or colored, and so no glass.
    """
    brightness = pixels.astype(np.uint16).sum(axis=1)
    bright = pixels[brightness >= np.quantile(brightness, 1 - BRIGHTEST_SHARE)]
    color = np.asarray(np.median(bright, axis=0), np.float64)
    is_gray = color.max() - color.min() <= MAX_GLASS_SATURATION * color.max()
    return color if is_gray and color.min() >= MIN_GLASS_LEVEL else np.full(3, WHITE)


def optical_density(pixels: PixelRows, *, light: Triple) -> DensityRows:
    """Return ln(light / I); black counts as level 1, and what is brighter than the glass is negative."""
    return np.asarray(np.log(light) - np.log(np.maximum(pixels, 1).astype(np.float64)))


def _is_pen(pixels: PixelRows, *, light: Triple) -> np.ndarray:
    red, green, blue = (round(float(level)) for level in light)
    color = density_color(pixels[:, None], glass=(red, green, blue))
    return pen_pixels(color, colors=PEN_COLORS)[:, 0]

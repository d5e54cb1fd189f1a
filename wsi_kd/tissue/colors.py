"""Pixels of an overview sorted by the color of their absorption, in one pass over it."""

from collections.abc import Collection
from typing import NamedTuple

from wsi_kd.slides.overview import PixelRows
from wsi_kd.tissue.bit_mask import BitMask
from wsi_kd.tissue.edge import dark_gray
from wsi_kd.tissue.optical_density import GlassColor, density_color
from wsi_kd.tissue.pen import PenColor, surely_ink
from wsi_kd.tissue.strips import strips


class SortedPixels(NamedTuple):
    """Where an overview has the colors of what is no tissue."""

    ink: dict[PenColor, BitMask]
    """Surely ink, by color."""
    gray: BitMask
    """Dark and gray: rims of bubbles, edges of the cover slip."""


def sort_pixels(pixels: PixelRows, *, glass: GlassColor, pen_colors: Collection[PenColor]) -> SortedPixels:
    """Look for inks and for gray on an overview.

    Args:
        pixels: the overview.
        glass: color of bare glass.
        pen_colors: inks that are looked for.
    """
    shape = (pixels.shape[0], pixels.shape[1])
    found = SortedPixels({name: BitMask(shape) for name in pen_colors}, BitMask(shape))
    for rows in strips(shape):
        color = density_color(pixels[rows], glass=glass)
        found.gray[rows] = dark_gray(color)
        for name, ink in found.ink.items():
            ink[rows] = surely_ink(color, name)
    return found

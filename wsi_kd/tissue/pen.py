"""Marks of a felt pen, told from stains by the color of their absorption and from specks by their size.

Stains and inks take different parts of the plane of chromaticities (see `optical_density`), which hold at any
strength. Where an ink is thin or lies over tissue its color moves towards the tissue's, so a wider region
counts in the neighborhood of pixels that are surely ink. The regions were set on the absorption of stains
(Ruifrok and Johnston 2001), on inks drawn over drawn tissue and on H&E and Ki-67 slides without pen;
docs/tissue.md has what they find elsewhere.
"""

import math
from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from wsi_kd.core.shapes import Mask
from wsi_kd.slides.overview import PixelRows
from wsi_kd.tissue.bit_mask import BitMask
from wsi_kd.tissue.cleaning import dilated, pieces_with, without_small, without_thin
from wsi_kd.tissue.optical_density import DensityColor, GlassColor, density_color
from wsi_kd.tissue.strips import strips

PenColor: TypeAlias = Literal["green", "blue", "red", "black"]
PEN_COLORS: tuple[PenColor, ...] = ("green", "blue", "red", "black")
REACH_UM = 200.0
"""The soft edge of a stroke lies this near to pixels that are surely ink."""
MARGIN_UM = 16.0
"""What is taken off beyond the edge that can be seen."""
MIN_WIDTH_UM = 64.0
"""Marks narrower than this are no pen: nuclei, vessels, pigment."""


class _Region(NamedTuple):
    """A rectangle in the plane of chromaticities, for pixels denser than `min_density`; its edges are out."""

    min_density: float
    c_x: tuple[float, float]
    c_y: tuple[float, float]


class _Ink(NamedTuple):
    """Where an ink is alone, and where it may lie if sure pixels of it are near."""

    sure: tuple[_Region, ...]
    likely: tuple[_Region, ...]


def find_pen(
    pixels: PixelRows, sure: Mapping[PenColor, BitMask], *, mpp: float, glass: GlassColor, min_pen_um2: float
) -> BitMask:
    """Find pen strokes on an overview, on glass and over tissue.

    For each color: pixels that are surely ink, without what is narrower than `MIN_WIDTH_UM` and pieces below
    `min_pen_um2`; then the pixels that are likely ink within `REACH_UM` of those and joined to them, and a
    margin of `MARGIN_UM`.

    Args:
        pixels: overview of the slide.
        sure: where it is surely ink, by the colors that are looked for, see `surely_ink`.
        mpp: its um/px.
        glass: color of bare glass.
        min_pen_um2: smallest mark.
    """
    found = BitMask((pixels.shape[0], pixels.shape[1]))
    for name, marked in sure.items():
        ink = without_small(without_thin(marked, MIN_WIDTH_UM / mpp), min_pen_um2 / mpp**2)
        if ink.any():
            reach = dilated(ink, REACH_UM / mpp)
            near = (_likely_ink(pixels, reach, glass=glass, color=name) | ink) & reach
            found = found | pieces_with(near, ink)
    return dilated(found, MARGIN_UM / mpp)


def surely_ink(color: DensityColor, name: PenColor) -> Mask:
    """Mark pixels whose color is that of one ink and of no stain."""
    return _inside(color, _INKS[name].sure)


def _likely_ink(pixels: PixelRows, where: BitMask, *, glass: GlassColor, color: PenColor) -> BitMask:
    """Mark pixels that may be ink, in the runs of rows that hold some of `where`."""
    likely = BitMask(where.shape)
    for rows in strips(where.shape):
        if where.any(rows):
            likely[rows] = _inside(density_color(pixels[rows], glass=glass), _INKS[color].likely)
    return likely


def pen_pixels(color: DensityColor, *, colors: Collection[PenColor]) -> Mask:
    """Mark the pixels that are surely ink, whatever the size of the mark."""
    found = np.zeros(color.density.shape, bool)
    for name in colors:
        found |= _inside(color, _INKS[name].sure)
    return found


_GREEN = _Ink(
    sure=(
        _Region(0.2, c_x=(0.45, math.inf), c_y=(-math.inf, 0.08)),
        _Region(0.6, c_x=(0.3, math.inf), c_y=(-math.inf, 0.12)),
        _Region(1.0, c_x=(0.15, math.inf), c_y=(-math.inf, 0.15)),
    ),
    likely=(_Region(0.08, c_x=(0.15, math.inf), c_y=(-math.inf, 0.12)),),
)
_BLUE = _Ink(  # thin hematoxylin reaches c_x 0.5; the denser it is, the nearer it stays to 0
    sure=(
        _Region(0.25, c_x=(0.62, math.inf), c_y=(0.1, math.inf)),
        _Region(1.0, c_x=(0.3, math.inf), c_y=(0.14, math.inf)),
    ),
    likely=(
        _Region(0.08, c_x=(0.4, math.inf), c_y=(0.1, math.inf)),
        _Region(0.8, c_x=(0.22, math.inf), c_y=(0.14, math.inf)),
    ),
)
_RED = _Ink(  # eosin leaves red light alone as well, but takes twice as much green as blue: c_y above 0.25
    sure=(
        _Region(0.25, c_x=(-math.inf, -0.72), c_y=(-math.inf, 0.22)),
        _Region(0.5, c_x=(-0.75, -0.58), c_y=(-0.05, 0.22)),
        _Region(1.0, c_x=(-math.inf, -0.66), c_y=(-0.05, 0.33)),
    ),
    likely=(
        _Region(0.1, c_x=(-math.inf, -0.5), c_y=(-math.inf, 0.27)),
        _Region(0.7, c_x=(-0.5, -0.25), c_y=(-math.inf, 0.2)),
    ),
)
_BLACK = _Ink(  # dense hematoxylin has c_y above 0.15; dense DAB has c_x below -0.04 and c_y below 0.02
    sure=(
        _Region(1.1, c_x=(-0.04, 0.2), c_y=(-0.1, 0.13)),
        _Region(1.1, c_x=(-0.2, -0.04), c_y=(0.05, 0.13)),
        _Region(1.3, c_x=(-0.28, -0.04), c_y=(0.05, 0.2)),
    ),
    likely=(
        _Region(0.7, c_x=(-0.04, 0.25), c_y=(-0.1, 0.17)),
        _Region(0.8, c_x=(-0.3, -0.04), c_y=(0.03, 0.24)),
    ),
)
_INKS: dict[PenColor, _Ink] = {"green": _GREEN, "blue": _BLUE, "red": _RED, "black": _BLACK}


def _inside(color: DensityColor, regions: Collection[_Region]) -> Mask:
    found = np.zeros(color.density.shape, bool)
    for region in regions:
        marked = color.density > region.min_density
        for values, (low, high) in ((color.c_x, region.c_x), (color.c_y, region.c_y)):
            if low > -math.inf:
                marked &= values > low
            if high < math.inf:
                marked &= values < high
        found |= marked
    return found

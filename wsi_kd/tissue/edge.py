"""Rims of air bubbles and edges of the cover slip: dark lines without color, thin and long.

They refract light out of the objective, all colors alike, so their chromaticity is that of gray (see
`optical_density`), which no stain has at the width of a line.
"""

import cv2
import numpy as np

from wsi_kd.core.shapes import Mask, Pixels
from wsi_kd.tissue.cleaning import as_levels, close_gaps, dilated, pieces_with, without_thin
from wsi_kd.tissue.optical_density import GlassColor, density_color
from wsi_kd.tissue.strips import strips

MIN_DENSITY = 0.12
MAX_CHROMATICITY = 0.15
"""Distance from gray in the plane of chromaticities."""
GAP_UM = 16.0
MIN_LENGTH_UM = 400.0
"""Diagonal of the box around a line."""
MARGIN_UM = 16.0


def find_edges(pixels: Pixels, *, mpp: float, glass: GlassColor, max_edge_um: float) -> Mask:
    """Find dark gray lines up to `max_edge_um` wide on an overview, with a margin of `MARGIN_UM`.

    Args:
        pixels: overview of the slide.
        mpp: its um/px.
        glass: color of bare glass.
        max_edge_um: what is wider anywhere is no line; 0 finds none.
    """
    gray = close_gaps(_gray(pixels, glass), GAP_UM / mpp)
    thin = gray & ~pieces_with(gray, without_thin(gray, max_edge_um / mpp))
    if not thin.any():
        return np.asarray(thin)
    del gray
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(as_levels(thin), connectivity=8)
    keep = np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]) * mpp >= MIN_LENGTH_UM
    keep[0] = False
    return dilated(np.asarray(keep[pieces]), MARGIN_UM / mpp)


def _gray(pixels: Pixels, glass: GlassColor) -> Mask:
    gray = np.empty(pixels.shape[:2], bool)
    for rows in strips(len(pixels)):
        color = density_color(pixels[rows], glass=glass)
        gray[rows] = (color.density > MIN_DENSITY) & (np.hypot(color.c_x, color.c_y) < MAX_CHROMATICITY)
    return gray

"""Rims of air bubbles and edges of the cover slip: dark lines without color, thin and long.

They refract light out of the objective, all colors alike, so their chromaticity is that of gray (see
`optical_density`), which no stain has at the width of a line.
"""

import numpy as np

from wsi_kd.core.shapes import Mask
from wsi_kd.tissue.bit_mask import BitMask
from wsi_kd.tissue.cleaning import close_gaps, dilated, pieces_with, without_thin
from wsi_kd.tissue.optical_density import DensityColor
from wsi_kd.tissue.pieces import Pieces

MIN_DENSITY = 0.12
MAX_CHROMATICITY = 0.15
"""Distance from gray in the plane of chromaticities."""
GAP_UM = 16.0
MIN_LENGTH_UM = 400.0
"""Diagonal of the box around a line."""
MARGIN_UM = 16.0


def find_edges(gray: BitMask, *, mpp: float, max_edge_um: float) -> BitMask:
    """Find dark gray lines up to `max_edge_um` wide on an overview, with a margin of `MARGIN_UM`.

    Args:
        gray: where the overview is dark and gray, see `dark_gray`.
        mpp: its um/px.
        max_edge_um: what is wider anywhere is no line; 0 finds none.
    """
    gray = close_gaps(gray, GAP_UM / mpp)
    thin = gray & ~pieces_with(gray, without_thin(gray, max_edge_um / mpp))
    pieces = Pieces(thin, connectivity=8)
    long = np.hypot(pieces.right - pieces.left, pieces.bottom - pieces.top) * mpp >= MIN_LENGTH_UM
    return dilated(pieces.chosen(long), MARGIN_UM / mpp)


def dark_gray(color: DensityColor) -> Mask:
    """Mark pixels that are as dark and as gray as the rim of a bubble."""
    return np.asarray((color.density > MIN_DENSITY) & (color.c_x**2 + color.c_y**2 < MAX_CHROMATICITY**2))

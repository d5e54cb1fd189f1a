"""Folds: bands in which tissue lies over itself, so that densities add up.

Kothari, Phan and Wang (Eliminating tissue-fold artifacts in histopathological whole-slide images, J. Pathol.
Inform. 4:22, 2013) find them as pixels that are dark and saturated for their slide. Density is both at once:
two layers absorb twice as much as one. Dense tissue (lymph follicles, tumor nests, crypts) does so too; a
fold is told from it by its shape, a narrow and long band.
"""

import cv2
import numpy as np
from jaxtyping import Float32

from wsi_kd.core.shapes import Mask, Pixels
from wsi_kd.tissue.cleaning import pieces_with, without_small, without_thin
from wsi_kd.tissue.optical_density import GlassColor, mean_density

SMOOTH_UM = 12.0
"""Standard deviation of the blur that evens out single nuclei."""
AROUND_UM = 400.0
"""Standard deviation of the neighborhood whose tissue a pixel is compared with."""
MIN_WIDTH_UM = 32.0
MAX_WIDTH_UM = 320.0
MIN_LENGTH_TO_WIDTH = 3.5
MIN_EXCESS = 0.25
"""Density that a fold has more than its neighborhood, whatever the ratio: pale tissue is noisy."""


def find_folds(
    pixels: Pixels, tissue: Mask, *, mpp: float, glass: GlassColor, fold_ratio: float, min_fold_um2: float
) -> Mask:
    """Find folds on an overview.

    Pixels of the tissue count whose density is `fold_ratio` times the mean of the tissue around them
    (Gaussian of `AROUND_UM`); of those, pieces that are nowhere wider than `MAX_WIDTH_UM`, cover
    `min_fold_um2` and are `MIN_LENGTH_TO_WIDTH` times as long as wide (length: area / width).

    Args:
        pixels: overview of the slide.
        tissue: where tissue is.
        mpp: um/px of the overview.
        glass: color of bare glass.
        fold_ratio: how much denser a fold is than what surrounds it.
        min_fold_um2: smallest fold.
    """
    density = mean_density(pixels, glass=glass)
    inside = tissue.astype(np.float32)
    around = _mean_inside(density, inside, AROUND_UM / mpp)
    smooth = _mean_inside(density, inside, SMOOTH_UM / mpp)
    dense = tissue & (smooth >= fold_ratio * around) & (smooth >= around + MIN_EXCESS)
    solid = without_thin(dense, MIN_WIDTH_UM / mpp)
    narrow = solid & ~pieces_with(solid, without_thin(solid, MAX_WIDTH_UM / mpp))
    return _long(without_small(narrow, min_fold_um2 / mpp**2))


def _mean_inside(
    values: Float32[np.ndarray, "height width"], inside: Float32[np.ndarray, "height width"], sigma_px: float
) -> Float32[np.ndarray, "height width"]:
    """Gaussian mean over the pixels inside only."""
    total = cv2.GaussianBlur(values * inside, (0, 0), max(sigma_px, 0.3), borderType=cv2.BORDER_CONSTANT)
    weight = cv2.GaussianBlur(inside, (0, 0), max(sigma_px, 0.3), borderType=cv2.BORDER_CONSTANT)
    np.maximum(weight, np.float32(1e-6), out=weight)
    total /= weight
    return np.asarray(total, np.float32)


def _long(mask: Mask) -> Mask:
    """Keep pieces that are long for their width: four times the mean distance to their edge, for a band."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
    area = stats[:, cv2.CC_STAT_AREA]
    width = 4 * np.bincount(pieces[mask], weights=depth[mask], minlength=count) / area
    keep = area >= MIN_LENGTH_TO_WIDTH * width**2
    keep[0] = False
    return np.asarray(keep[pieces])

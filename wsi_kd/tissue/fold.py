"""Folds: bands in which tissue lies over itself, so that densities add up.

Kothari, Phan and Wang (Eliminating tissue-fold artifacts in histopathological whole-slide images, J. Pathol.
Inform. 4:22, 2013) find them as pixels that are dark and saturated for their slide. Density is both at once:
two layers absorb twice as much as one. Dense tissue (lymph follicles, tumor nests, crypts) does so too; a
fold is told from it by its shape, a narrow and long band.
"""

import math

import cv2
import numpy as np
from jaxtyping import Float32

from wsi_kd.core.shapes import Mask, Pixels
from wsi_kd.tissue.cleaning import as_levels, pieces_with, without_small, without_thin
from wsi_kd.tissue.optical_density import GlassColor, mean_density
from wsi_kd.tissue.strips import strips_with_halo

SMOOTH_UM = 12.0
"""Standard deviation of the blur that evens out single nuclei."""
AROUND_UM = 400.0
"""Standard deviation of the neighborhood whose tissue a pixel is compared with."""
KERNEL_SIGMAS = 4
"""Standard deviations from the middle of OpenCV's Gaussian kernel for floats to its end."""
MIN_SIGMA_PX = 0.3
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
    solid = without_thin(_dense(pixels, tissue, mpp=mpp, glass=glass, ratio=fold_ratio), MIN_WIDTH_UM / mpp)
    narrow = solid & ~pieces_with(solid, without_thin(solid, MAX_WIDTH_UM / mpp))
    return _long(without_small(narrow, min_fold_um2 / mpp**2))


def _dense(pixels: Pixels, tissue: Mask, *, mpp: float, glass: GlassColor, ratio: float) -> Mask:
    """Find what is denser than its neighborhood; of planes of floats there are two at a time."""
    around = _mean_inside(mean_density(pixels, glass=glass), tissue, AROUND_UM / mpp)
    sigma_px = SMOOTH_UM / mpp
    dense = tissue.copy()
    for strip in strips_with_halo(len(pixels), math.ceil(KERNEL_SIGMAS * sigma_px) + 1):
        density = mean_density(pixels[strip.around], glass=glass)
        smooth = _mean_inside(density, tissue[strip.around], sigma_px)[strip.inside]
        near = around[strip.rows]
        dense[strip.rows] &= (smooth >= ratio * near) & (smooth >= near + MIN_EXCESS)
    return dense


def _mean_inside(
    values: Float32[np.ndarray, "height width"], inside: Mask, sigma_px: float
) -> Float32[np.ndarray, "height width"]:
    """Gaussian mean over the pixels inside only; takes the place of the values."""
    values *= inside
    weight = inside.astype(np.float32)
    sigma_px = max(sigma_px, MIN_SIGMA_PX)
    for plane in (values, weight):
        cv2.GaussianBlur(plane, (0, 0), sigma_px, dst=plane, borderType=cv2.BORDER_CONSTANT)
    np.maximum(weight, np.float32(1e-6), out=weight)
    values /= weight
    return values


def _long(mask: Mask) -> Mask:
    """Keep pieces that are long for their width: four times the mean distance to their edge, for a band."""
    if not mask.any():
        return mask
    depth = cv2.distanceTransform(as_levels(np.pad(mask, 1)), cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1][mask]
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(as_levels(mask), connectivity=4)
    area = stats[:, cv2.CC_STAT_AREA]
    width = 4 * np.bincount(pieces[mask], weights=depth, minlength=count) / area
    keep = area >= MIN_LENGTH_TO_WIDTH * width**2
    keep[0] = False
    return np.asarray(keep[pieces])

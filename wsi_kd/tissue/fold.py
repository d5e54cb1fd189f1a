"""Folds: bands in which tissue lies over itself, so that densities add up.

Kothari, Phan and Wang (Eliminating tissue-fold artifacts in histopathological whole-slide images, J. Pathol.
Inform. 4:22, 2013) find them as pixels that are dark and saturated for their slide. Density is both at once:
two layers absorb twice as much as one. Dense tissue (lymph follicles, tumor nests, crypts) does so too; a
fold is told from it by its shape, a narrow and long band.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32

from wsi_kd.core.shapes import Mask
from wsi_kd.slides.overview import PixelRows
from wsi_kd.tissue.bit_mask import BitMask
from wsi_kd.tissue.cleaning import mean_depth, pieces_with, without_small, without_thin
from wsi_kd.tissue.optical_density import GlassColor, mean_density
from wsi_kd.tissue.pieces import Pieces
from wsi_kd.tissue.strips import strips, strips_with_halo

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
BLOCKS_A_SIGMA = 12
"""The neighborhood is averaged over square blocks; so many lie along its standard deviation, or more."""
WIDENED = 1 / 12 + 1 / 6
"""Variance, in blocks, by which averaging over blocks and interpolating between them widen a Gaussian."""

Plane = Float32[np.ndarray, "height width"]
BlockPlane = Float32[np.ndarray, "block_rows block_columns"]


class _Blocks(NamedTuple):
    """The neighborhood's mean density, one value a block of `edge_px` x `edge_px` pixels."""

    mean: BlockPlane
    edge_px: int


def find_folds(
    pixels: PixelRows,
    tissue: BitMask,
    *,
    mpp: float,
    glass: GlassColor,
    fold_ratio: float,
    min_fold_um2: float,
) -> BitMask:
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
    pieces = Pieces(without_small(narrow, min_fold_um2 / mpp**2), connectivity=4)
    width = 4 * mean_depth(pieces, max_depth_px=MAX_WIDTH_UM / mpp)
    return pieces.chosen(pieces.area >= MIN_LENGTH_TO_WIDTH * width**2)


def _dense(pixels: PixelRows, tissue: BitMask, *, mpp: float, glass: GlassColor, ratio: float) -> BitMask:
    """Find what is denser than its neighborhood."""
    around = _neighborhood(pixels, tissue, AROUND_UM / mpp, glass=glass)
    sigma_px = SMOOTH_UM / mpp
    dense = BitMask(tissue.shape)
    reach_px = math.ceil(KERNEL_SIGMAS * sigma_px) + 1
    for strip in strips_with_halo(pixels.shape, reach_px, multiple_px=around.edge_px):
        if tissue.any(strip.rows):
            density = mean_density(pixels[strip.around], glass=glass)
            smooth = _mean_inside(density, tissue[strip.around], sigma_px)[strip.inside]
            near = _interpolated(around, strip.rows, width=tissue.shape[1])
            dense[strip.rows] = tissue[strip.rows] & (smooth >= ratio * near) & (smooth >= near + MIN_EXCESS)
    return dense


def _neighborhood(pixels: PixelRows, tissue: BitMask, sigma_px: float, *, glass: GlassColor) -> _Blocks:
    """Average the tissue's density over blocks, then by a Gaussian over those: no plane has more pixels."""
    edge_px = max(1, int(sigma_px / BLOCKS_A_SIGMA))
    shape = tuple(-(-length // edge_px) for length in tissue.shape)
    values, weight = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for rows in strips(pixels.shape, multiple_px=edge_px):
        if tissue.any(rows):
            inside = tissue[rows].astype(np.float32)
            blocks = slice(rows.start // edge_px, -(-rows.stop // edge_px))
            weight[blocks] = _block_means(inside, edge_px)
            inside *= mean_density(pixels[rows], glass=glass)
            values[blocks] = _block_means(inside, edge_px)
    sigma = math.sqrt((sigma_px / edge_px) ** 2 - (WIDENED if edge_px > 1 else 0.0))
    return _Blocks(_weighted_mean(values, weight, sigma), edge_px)


def _block_means(plane: Plane, edge_px: int) -> BlockPlane:
    """Average over blocks; where the plane ends within one, 0 is added."""
    if edge_px == 1:
        return plane
    down, right = (-length % edge_px for length in plane.shape)
    whole = cv2.copyMakeBorder(plane, 0, down, 0, right, cv2.BORDER_CONSTANT, value=0.0)
    size = (whole.shape[1] // edge_px, whole.shape[0] // edge_px)
    return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA))


def _interpolated(blocks: _Blocks, rows: slice, *, width: int) -> Plane:
    """Return some rows in pixels, from the first row of a block on; linear between the middles of blocks."""
    edge_px = blocks.edge_px
    if edge_px == 1:
        return blocks.mean[rows]
    first, end = rows.start // edge_px, -(-rows.stop // edge_px)
    near = blocks.mean[np.clip(np.arange(first - 1, end + 1), 0, len(blocks.mean) - 1)]
    size = (near.shape[1] * edge_px, near.shape[0] * edge_px)
    large = cv2.resize(near, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(large[edge_px:][: rows.stop - rows.start, :width])


def _mean_inside(values: Plane, inside: Mask, sigma_px: float) -> Plane:
    """Gaussian mean over the pixels inside only; takes the place of the values."""
    values *= inside
    return _weighted_mean(values, inside.astype(np.float32), sigma_px)


def _weighted_mean(values: Plane, weight: Plane, sigma_px: float) -> Plane:
    """Gaussian sum of `values` over that of `weight`; takes the place of both."""
    sigma_px = max(sigma_px, MIN_SIGMA_PX)
    for plane in (values, weight):
        cv2.GaussianBlur(plane, (0, 0), sigma_px, dst=plane, borderType=cv2.BORDER_CONSTANT)
    np.maximum(weight, np.float32(1e-6), out=weight)
    values /= weight
    return values

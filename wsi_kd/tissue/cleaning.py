"""Masks cleaned by size: gaps closed, specks dropped, holes filled, areas widened.

What reaches so many pixels and no farther is done run by run of rows, with as many rows around each; the
result is that of the whole mask at once.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np

from wsi_kd.core.shapes import Mask
from wsi_kd.tissue.bit_mask import BitMask
from wsi_kd.tissue.pieces import Pieces
from wsi_kd.tissue.strips import MASK_STRIP_PX, strips_with_halo


def close_gaps(mask: BitMask, gap_px: float) -> BitMask:
    """Close gaps up to `gap_px` wide; the border is padded so that it attracts nothing."""
    radius = round(gap_px / 2)
    if radius < 1:
        return mask

    def close(rows: Mask) -> Mask:
        padded = np.pad(rows, radius).view(np.uint8)
        closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, _disk(radius), dst=padded)
        return np.asarray(closed[radius:-radius, radius:-radius] > 0)

    return _by_runs(mask, close, reach_px=2 * radius)


def without_thin(mask: BitMask, width_px: float) -> BitMask:
    """Drop what is narrower than `width_px` (a morphological opening by a disk)."""
    radius = round(width_px / 2)
    if radius < 1:
        return mask

    def opened(rows: Mask) -> Mask:
        return cv2.morphologyEx(rows.view(np.uint8), cv2.MORPH_OPEN, _disk(radius)).view(bool)

    return _by_runs(mask, opened, reach_px=2 * radius)


def dilated(mask: BitMask, reach_px: float) -> BitMask:
    """Widen a mask by `reach_px` to all sides."""
    radius = round(reach_px)
    if radius < 1:
        return mask

    def widened(rows: Mask) -> Mask:
        distance = cv2.distanceTransform((~rows).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
        return np.asarray(distance <= radius)

    return _by_runs(mask, widened, reach_px=radius + 1)


def pieces_with(mask: BitMask, seeds: BitMask) -> BitMask:
    """Keep the 8-connected pieces of `mask` that hold a pixel of `seeds`."""
    if not (mask & seeds).any():
        return BitMask(mask.shape)
    pieces = Pieces(mask, connectivity=8)
    return pieces.chosen(pieces.holding(seeds))


def without_small(mask: BitMask, min_area_px: float) -> BitMask:
    """Drop 4-connected pieces with an area below `min_area_px`."""
    pieces = Pieces(mask, connectivity=4)
    keep = pieces.area >= min_area_px
    return mask if keep.all() else pieces.chosen(keep)


def fill_holes(mask: BitMask, min_area_px: float) -> BitMask:
    """Fill holes below `min_area_px`; what touches the border is glass, however small, and no hole."""
    height, width = mask.shape
    holes = Pieces(~mask, connectivity=8)
    inside = (holes.left > 0) & (holes.top > 0) & (holes.right < width) & (holes.bottom < height)
    fill = inside & (holes.area < min_area_px)
    return mask | holes.chosen(fill) if fill.any() else mask


def mean_depth(pieces: Pieces, *, max_depth_px: float) -> np.ndarray:
    """Return for each piece the mean distance of its pixels to its edge; the overview's border is an edge.

    Args:
        pieces: of a mask.
        max_depth_px: no pixel lies deeper than this; a bound on the rows that are looked at around each run.
    """
    total, mask = np.zeros(pieces.count), pieces.mask
    reach_px = math.ceil(max_depth_px) + 1
    for rows, numbers, piece_of in pieces.numbered():
        first, end = max(rows.start - reach_px, 0), min(rows.stop + reach_px, len(mask))
        padded = np.pad(mask[first:end], 1).view(np.uint8)
        depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
        inside = numbers > 0
        deep = depth[rows.start - first : rows.stop - first][inside]
        total += np.bincount(piece_of[numbers[inside]], weights=deep, minlength=len(total))
    return np.asarray(total / pieces.area)


def _by_runs(mask: BitMask, change: Callable[[Mask], Mask], *, reach_px: int) -> BitMask:
    """Apply a filter that makes nothing of nothing and reaches `reach_px` rows, run by run."""
    changed = BitMask(mask.shape)
    for strip in strips_with_halo(mask.shape, reach_px, pixels=MASK_STRIP_PX):
        if mask.any(strip.around):
            changed[strip.rows] = change(mask[strip.around])[strip.inside]
    return changed


def _disk(radius_px: int) -> np.ndarray:
    size = 2 * radius_px + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))

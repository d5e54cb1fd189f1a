"""Masks cleaned by size: gaps closed, specks dropped, holes filled, areas widened."""

import cv2
import numpy as np
from jaxtyping import UInt8

from wsi_kd.core.shapes import Mask


def close_gaps(mask: Mask, gap_px: float) -> Mask:
    """Close gaps up to `gap_px` wide; the border is padded so that it attracts nothing."""
    radius = round(gap_px / 2)
    if radius < 1:
        return mask
    padded = np.pad(mask, radius).view(np.uint8)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, _disk(radius), dst=padded)
    return np.asarray(closed[radius:-radius, radius:-radius] > 0)


def without_thin(mask: Mask, width_px: float) -> Mask:
    """Drop what is narrower than `width_px` (a morphological opening by a disk)."""
    radius = round(width_px / 2)
    if radius < 1 or not mask.any():
        return mask
    return cv2.morphologyEx(as_levels(mask), cv2.MORPH_OPEN, _disk(radius)).view(bool)


def dilated(mask: Mask, reach_px: float) -> Mask:
    """Widen a mask by `reach_px` to all sides."""
    radius = round(reach_px)
    if radius < 1 or not mask.any():
        return mask
    distance = cv2.distanceTransform(as_levels(~mask), cv2.DIST_L2, cv2.DIST_MASK_5)
    return np.asarray(distance <= radius)


def pieces_with(mask: Mask, seeds: Mask) -> Mask:
    """Keep the 8-connected pieces of `mask` that hold a pixel of `seeds`."""
    seeds = seeds & mask
    if not seeds.any():
        return seeds
    count, pieces = cv2.connectedComponents(as_levels(mask), connectivity=8)
    keep = np.zeros(count, bool)
    keep[pieces[seeds]] = True
    return np.asarray(keep[pieces])


def without_small(mask: Mask, min_area_px: float) -> Mask:
    """Drop 4-connected pieces with an area below `min_area_px`."""
    if not mask.any():
        return mask
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(as_levels(mask), connectivity=4)
    keep = stats[:, cv2.CC_STAT_AREA] >= min_area_px
    keep[0] = False
    return np.asarray(keep[pieces])


def fill_holes(mask: Mask, min_area_px: float) -> Mask:
    """Fill holes below `min_area_px`; what touches the border is glass, however small, and no hole."""
    height, width = mask.shape
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(as_levels(~mask), connectivity=8)
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    right, bottom = left + stats[:, cv2.CC_STAT_WIDTH], top + stats[:, cv2.CC_STAT_HEIGHT]
    inside = (left > 0) & (top > 0) & (right < width) & (bottom < height)
    fill = inside & (stats[:, cv2.CC_STAT_AREA] < min_area_px)
    fill[0] = False
    filled = fill[pieces]
    filled |= mask
    return np.asarray(filled)


def as_levels(mask: Mask) -> UInt8[np.ndarray, "height width"]:
    """Return the same memory as numbers 0 and 1, which OpenCV takes."""
    return np.ascontiguousarray(mask).view(np.uint8)


def _disk(radius_px: int) -> np.ndarray:
    size = 2 * radius_px + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))

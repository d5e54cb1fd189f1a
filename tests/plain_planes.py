"""Tissue and folds by whole planes of floats: plain formulas, to compare the real ones with."""

import cv2
import numpy as np

from wsi_kd.settings.slides import MaskSettings
from wsi_kd.tissue import fold, segmentation

SETTINGS = MaskSettings()


def plain_tissue(pixels, *, mpp, where):
    """Where tissue is, outside of pen and edges."""
    channels = cv2.split(np.float32(cv2.GaussianBlur(pixels, (3, 3), 0)) / 255)
    value, least = np.maximum.reduce(channels), np.minimum.reduce(channels)
    saturation = (value - least) / np.maximum(value, np.float32(segmentation.MIN_VALUE))
    luminance = np.float32(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)) / 255
    mean, squares = cv2.blur(luminance, (5, 5)), cv2.blur(luminance * luminance, (5, 5))
    texture = np.sqrt(np.maximum(squares - mean * mean, 0))
    found = (saturation >= _threshold(saturation, texture, where)) & (texture >= SETTINGS.min_texture) & where
    radius = round(SETTINGS.close_um / mpp / 2)
    padded = np.pad(found, 2 * radius).astype(np.uint8)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, _disk(radius))[2 * radius :, 2 * radius :]
    mask = _large(
        closed[: len(found), : found.shape[1]].astype(bool) & where, SETTINGS.min_tissue_um2 / mpp**2, 4
    )
    outer = np.pad(~mask, 1, constant_values=True)  # what touches the border is no hole
    holes = outer & ~_large(outer, SETTINGS.min_hole_um2 / mpp**2, 8)
    return (mask | holes[1:-1, 1:-1]) & where


def plain_folds(pixels, tissue, *, mpp, glass):
    """Which of the tissue is folded."""
    light = np.maximum(np.float32(pixels), 1)
    density = np.maximum(np.log(np.float32(glass) / light), 0).mean(axis=2)
    smooth, near = (_mean_inside(density, tissue, um / mpp) for um in (fold.SMOOTH_UM, fold.AROUND_UM))
    dense = tissue & (smooth >= SETTINGS.fold_ratio * near) & (smooth >= near + fold.MIN_EXCESS)
    solid = _opened(dense, fold.MIN_WIDTH_UM / mpp)
    wide = _opened(solid, fold.MAX_WIDTH_UM / mpp)
    _, pieces = cv2.connectedComponents(solid.astype(np.uint8), connectivity=8)
    narrow = _large(solid & ~np.isin(pieces, pieces[wide]), SETTINGS.min_fold_um2 / mpp**2, 4)
    depth = cv2.distanceTransform(np.pad(narrow, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    found = np.zeros_like(narrow)
    count, pieces = cv2.connectedComponents(narrow.astype(np.uint8), connectivity=4)
    for piece in range(1, count):
        inside = pieces == piece
        if inside.sum() >= fold.MIN_LENGTH_TO_WIDTH * (4 * depth[inside].mean()) ** 2:
            found |= inside
    return found


def _threshold(saturation, texture, where):
    levels = np.round(saturation * 255).astype(np.uint8)
    cut, _ = cv2.threshold(levels[where], 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    below = (levels <= cut) & where
    if below.sum() in {0, where.sum()} or np.median(texture[below]) >= 2 * SETTINGS.min_texture:
        return SETTINGS.min_saturation
    otsu = (saturation[below].mean() + saturation[where & ~below].mean()) / 2
    glass = np.median(saturation[below])
    spread = 1.4826 * np.median(np.abs(saturation[below] - glass))
    return max(SETTINGS.min_saturation, min((glass + otsu) / 2, glass + 6 * spread))


def _large(mask, area_px, connectivity):
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=connectivity)
    keep = stats[:, cv2.CC_STAT_AREA] >= area_px
    keep[0] = False
    return keep[pieces]


def _opened(mask, width_px):
    radius = round(width_px / 2)
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, _disk(radius)).astype(bool)


def _disk(radius):
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def _mean_inside(values, inside, sigma_px):
    weight = np.float32(inside)
    blurred = [
        cv2.GaussianBlur(plane, (0, 0), sigma_px, borderType=cv2.BORDER_CONSTANT)
        for plane in (values * weight, weight)
    ]
    return blurred[0] / np.maximum(blurred[1], 1e-6)

"""Thumbnail -> tissue mask: saturation by Otsu and local texture, then cleaning by sizes in um."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.core.shapes import Mask, Pixels
from wsi_kd.tissue.cleaning import close_gaps, fill_holes, without_small
from wsi_kd.tissue.optical_density import strips

TEXTURE_WINDOW_PX = 5
MIN_VALUE = 0.2
"""Darker pixels count as this bright in the saturation, whose quotient is noise near black."""
GLASS_SPREADS = 6.0
MAD_TO_STD = 1.4826
"""Standard deviations a median absolute deviation, for normal noise."""
_LEVELS = 255

Plane = Float32[np.ndarray, "height width"]


class _Planes(NamedTuple):
    luminance: Plane
    saturation: Plane
    texture: Plane


def segment_tissue(
    pixels: Pixels,
    *,
    mpp: float,
    min_tissue_um2: float,
    min_hole_um2: float,
    close_um: float,
    min_saturation: float,
    min_texture: float,
    dark_field_luminance: float,
    excluded: Mask | None = None,
) -> Mask:
    """Find tissue: pixels that are colored and textured, closed, holes filled, small pieces dropped.

    A pixel is colored where its saturation reaches the threshold of `saturation_threshold`, and textured
    where the standard deviation of luminance in 5 x 5 pixels reaches `min_texture`: smooth tints, blurred
    pen strokes and shadows of the cover slip are colored but not textured, dust and scratches are textured
    but not colored.

    Args:
        pixels: overview of the slide.
        mpp: its um/px.
        min_tissue_um2: pieces below this area are dropped.
        min_hole_um2: holes below this area are filled.
        close_um: gaps up to this width are closed.
        min_saturation: lower bound on the saturation threshold (0-1).
        min_texture: standard deviation of luminance (0-1) below which a pixel is smooth.
        dark_field_luminance: median luminance (0-1) below which the slide is not brightfield.
        excluded: where pen lies: no tissue, and left out of the threshold; default: nowhere.

    Raises:
        SlideProblem: empty, for dark field (fluorescence) and where nothing is left.
    """
    planes = _planes(pixels)
    open_to_see = np.ones(pixels.shape[:2], bool) if excluded is None else ~excluded
    luminance = float(np.median(planes.luminance))
    if luminance < dark_field_luminance:
        reason = (
            f"dark field: median luminance {luminance:.2f} is below {dark_field_luminance:g}; "
            "fluorescence has no brightfield tissue to find"
        )
        raise SlideProblem(SlideStatus.EMPTY, reason)
    threshold = saturation_threshold(
        planes.saturation[open_to_see][None],
        planes.texture[open_to_see][None],
        min_saturation=min_saturation,
        min_texture=min_texture,
    )
    found = (planes.saturation >= threshold) & (planes.texture >= min_texture) & open_to_see
    mask = without_small(close_gaps(found, close_um / mpp) & open_to_see, min_tissue_um2 / mpp**2)
    mask = fill_holes(mask, min_hole_um2 / mpp**2) & open_to_see
    if not mask.any():
        reason = (
            f"no tissue: {found.mean():.1%} of the slide is stained (saturation from {threshold:.3f}, "
            f"texture from {min_texture:g}), {1 - open_to_see.mean():.1%} is pen, and no piece reaches "
            f"{min_tissue_um2:g} um2; if there is tissue, draw it in QuPath and put it into mask.edited_dir"
        )
        raise SlideProblem(SlideStatus.EMPTY, reason)
    return np.asarray(mask)


def is_dark_field(pixels: Pixels, *, dark_field_luminance: float) -> bool:
    """Tell whether a slide is fluorescence: the median luminance (0-1) is below `dark_field_luminance`."""
    return float(np.median(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))) / _LEVELS < dark_field_luminance


def saturation_threshold(
    saturation: Plane, texture: Plane, *, min_saturation: float, min_texture: float
) -> float:
    """Place the threshold just above the glass: its median + `GLASS_SPREADS` robust standard deviations.

    Otsu's threshold tells which pixels are glass. Itself it lies halfway to the strongest stain and would
    drop pale tissue (fat, mucus, weak counterstain), so halfway from the glass to it is the upper bound, and
    `min_saturation` the lower one. Where the class below Otsu's threshold is itself textured (median of at
    least 2 x `min_texture`), the overview shows no glass and Otsu has cut the tissue in two: `min_saturation`
    decides.

    Source: Otsu, A threshold selection method from gray-level histograms, IEEE Trans. SMC 9 (1979).
    """
    if not saturation.size:
        return min_saturation
    levels = np.round(saturation * _LEVELS).astype(np.uint8)
    cut = cv2.threshold(levels, 0, _LEVELS, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0]
    below = levels <= cut
    one_class = below.all() or not below.any()
    if one_class or float(np.median(texture[below])) >= 2 * min_texture:
        return min_saturation
    otsu = (
        float(saturation[below].mean() + saturation[~below].mean()) / 2
    )  # the middle of the gap, if there is one
    glass = float(np.median(saturation[below]))
    spread = MAD_TO_STD * float(np.median(np.abs(saturation[below] - glass)))
    return max(min_saturation, min((glass + otsu) / 2, glass + GLASS_SPREADS * spread))


def _planes(pixels: Pixels) -> _Planes:
    saturation = np.empty(pixels.shape[:2], np.float32)
    blurred = cv2.GaussianBlur(pixels, (3, 3), 0)
    for rows in strips(len(pixels)):
        rgb = blurred[rows].astype(np.float32) / _LEVELS
        value = rgb.max(axis=2)
        saturation[rows] = (value - rgb.min(axis=2)) / np.maximum(value, np.float32(MIN_VALUE))
    del blurred
    luminance = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    luminance /= _LEVELS
    return _Planes(luminance, saturation, _texture(luminance))


def _texture(luminance: Plane) -> Plane:
    """Standard deviation in the window around each pixel, with two planes in memory beside the argument."""
    window = (TEXTURE_WINDOW_PX, TEXTURE_WINDOW_PX)
    variance = luminance * luminance
    variance = cv2.blur(variance, window, dst=variance)
    mean = cv2.blur(luminance, window)
    np.multiply(mean, mean, out=mean)
    np.subtract(variance, mean, out=variance)
    np.maximum(variance, np.float32(0), out=variance)
    return np.asarray(np.sqrt(variance, out=variance))

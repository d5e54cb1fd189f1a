"""Thumbnail -> tissue mask: saturation by Otsu and local texture, then cleaning by sizes in um."""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from jaxtyping import Float32

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.core.shapes import Mask, Pixels
from wsi_kd.tissue.cleaning import close_gaps, fill_holes, without_small
from wsi_kd.tissue.optical_density import gray_counts, middle_levels
from wsi_kd.tissue.strips import strips, strips_with_halo

TEXTURE_WINDOW_PX = 5
MIN_VALUE = 0.2
"""Darker pixels count as this bright in the saturation, whose quotient is noise near black."""
GLASS_SPREADS = 6.0
MAD_TO_STD = 1.4826
"""Standard deviations a median absolute deviation, for normal noise."""
_LEVELS = 255

Plane = Float32[np.ndarray, "height width"]
Run = tuple[slice, Float32[np.ndarray, "_rows width"]]
"""A run of rows of a plane."""


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
    luminance = float(np.median(np.array(middle_levels(gray_counts(pixels)), np.float32) / _LEVELS))
    if luminance < dark_field_luminance:
        reason = (
            f"dark field: median luminance {luminance:.2f} is below {dark_field_luminance:g}; "
            "fluorescence has no brightfield tissue to find"
        )
        raise SlideProblem(SlideStatus.EMPTY, reason)
    open_to_see = np.ones(pixels.shape[:2], bool) if excluded is None else ~excluded
    saturation = _saturation(pixels)
    threshold = saturation_threshold(
        saturation,
        _texture(pixels),
        where=open_to_see,
        min_saturation=min_saturation,
        min_texture=min_texture,
    )
    found = (saturation >= threshold) & open_to_see
    del saturation
    for rows, texture in _texture(pixels):
        found[rows] &= texture >= min_texture
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
    return sum(middle_levels(gray_counts(pixels))) / 2 / _LEVELS < dark_field_luminance


def saturation_threshold(
    saturation: Plane,
    texture: Iterable[Run],
    *,
    where: Mask,
    min_saturation: float,
    min_texture: float,
) -> float:
    """Place the threshold just above the glass: its median + `GLASS_SPREADS` robust standard deviations.

    Otsu's threshold tells which pixels are glass. Itself it lies halfway to the strongest stain and would
    drop pale tissue (fat, mucus, weak counterstain), so halfway from the glass to it is the upper bound, and
    `min_saturation` the lower one. Where the class below Otsu's threshold is itself textured (median of at
    least 2 x `min_texture`), the overview shows no glass and Otsu has cut the tissue in two: `min_saturation`
    decides.

    Args:
        saturation: of every pixel.
        texture: of every pixel, in runs of rows from top to bottom.
        where: the pixels that count.
        min_saturation: lower bound on the threshold.
        min_texture: standard deviation of luminance (0-1) below which a pixel is smooth.

    Source: Otsu, A threshold selection method from gray-level histograms, IEEE Trans. SMC 9 (1979).
    """
    if not where.any():
        return min_saturation
    below = _cut_in_two(saturation, where)
    one_class = np.count_nonzero(below) in {0, np.count_nonzero(where)}
    if one_class or _median(_at(below, texture)) >= 2 * min_texture:
        return min_saturation
    stained = saturation[where ^ below].mean()
    values = saturation[below]
    otsu = float(values.mean() + stained) / 2  # the middle of the gap, if there is one
    glass = _median(values)
    values -= np.float32(glass)
    spread = MAD_TO_STD * _median(np.abs(values, out=values))
    return max(min_saturation, min((glass + otsu) / 2, glass + GLASS_SPREADS * spread))


def _at(where: Mask, plane: Iterable[Run]) -> Float32[np.ndarray, "pixels"]:
    values = np.empty(np.count_nonzero(where), np.float32)
    end = 0
    for rows, run in plane:
        found = run[where[rows]]
        values[end : end + len(found)] = found
        end += len(found)
    return values


def _median(values: Float32[np.ndarray, "pixels"]) -> float:
    """Median of values whose order is of no more use."""
    return float(np.median(values, overwrite_input=True))


def _cut_in_two(saturation: Plane, where: Mask) -> Mask:
    """Split the pixels of `where` by Otsu's threshold; True is below it."""
    below = np.empty(saturation.shape, bool)
    levels = np.empty(saturation.shape, np.uint8)
    for rows in strips(len(saturation)):
        levels[rows] = np.round(saturation[rows] * _LEVELS)
    cut = cv2.threshold(levels[where], 0, _LEVELS, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0]
    np.less_equal(levels, cut, out=below)
    below &= where
    return below


def _saturation(pixels: Pixels) -> Plane:
    saturation = np.empty(pixels.shape[:2], np.float32)
    for strip in strips_with_halo(len(pixels), 1):
        channels = cv2.split(cv2.GaussianBlur(pixels[strip.around], (3, 3), 0)[strip.inside])
        red, green, blue = (channel.astype(np.float32) / _LEVELS for channel in channels)
        value = np.maximum(np.maximum(red, green), blue)
        least = np.minimum(np.minimum(red, green), blue)
        saturation[strip.rows] = (value - least) / np.maximum(value, np.float32(MIN_VALUE))
    return saturation


def _texture(pixels: Pixels) -> Iterator[Run]:
    """Standard deviation of luminance in the window around each pixel, a run of rows at a time."""
    window = (TEXTURE_WINDOW_PX, TEXTURE_WINDOW_PX)
    for strip in strips_with_halo(len(pixels), TEXTURE_WINDOW_PX // 2):
        luminance = cv2.cvtColor(pixels[strip.around], cv2.COLOR_RGB2GRAY).astype(np.float32) / _LEVELS
        mean = cv2.blur(luminance, window)
        variance = cv2.blur(luminance * luminance, window) - mean * mean
        yield strip.rows, np.sqrt(np.maximum(variance, np.float32(0)))[strip.inside]

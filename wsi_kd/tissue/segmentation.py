"""Overview -> tissue mask: saturation by Otsu and local texture, then cleaning by sizes in um."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt16

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.core.shapes import Pixels
from wsi_kd.slides.overview import PixelRows
from wsi_kd.tissue.bit_mask import BitMask
from wsi_kd.tissue.cleaning import close_gaps, fill_holes, without_small
from wsi_kd.tissue.strips import strips_with_halo

TEXTURE_WINDOW_PX = 5
MIN_VALUE = 0.2
"""Darker pixels count as this bright in the saturation, whose quotient is noise near black."""
GLASS_SPREADS = 6.0
MAD_TO_STD = 1.4826
"""Standard deviations a median absolute deviation, for normal noise."""
_LEVELS = 256


class SaturationCounts(NamedTuple):
    """How many pixels of an overview have each saturation; the saturations are in no order."""

    saturation: Float32[np.ndarray, "values"]
    pixels: Int64[np.ndarray, "values"]
    rough: Int64[np.ndarray, "values"]
    """How many of them have twice the texture that tissue needs."""


class _Looked(NamedTuple):
    """What the threshold follows from, and the texture, which is looked at once."""

    counts: SaturationCounts
    textured: BitMask


def segment_tissue(
    pixels: PixelRows,
    *,
    mpp: float,
    min_tissue_um2: float,
    min_hole_um2: float,
    close_um: float,
    min_saturation: float,
    min_texture: float,
    excluded: BitMask | None = None,
) -> BitMask:
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
        excluded: where pen lies: no tissue, and left out of the threshold; default: nowhere.

    Raises:
        SlideProblem: empty, where nothing is left.
    """
    shape = (pixels.shape[0], pixels.shape[1])
    open_to_see = ~(BitMask(shape) if excluded is None else excluded)
    counts, textured = _look(pixels, open_to_see, min_texture=min_texture)
    threshold = saturation_threshold(counts, min_saturation=min_saturation)
    textured &= open_to_see
    mask = _colored(pixels, textured, threshold)
    del textured
    area_px, stained_px = shape[0] * shape[1], mask.count()
    mask = close_gaps(mask, close_um / mpp) & open_to_see
    mask = without_small(mask, min_tissue_um2 / mpp**2)
    mask = fill_holes(mask, min_hole_um2 / mpp**2) & open_to_see
    if not mask.any():
        reason = (
            f"no tissue: {stained_px / area_px:.1%} of the slide is stained (saturation from "
            f"{threshold:.3f}, texture from {min_texture:g}), "
            f"{1 - open_to_see.count() / area_px:.1%} is pen, and no piece reaches "
            f"{min_tissue_um2:g} um2; if there is tissue, draw it in QuPath and put it into mask.edited_dir"
        )
        raise SlideProblem(SlideStatus.EMPTY, reason)
    return mask


def refuse_dark_field(luminance: float, *, dark_field_luminance: float) -> None:
    """Refuse fluorescence, where there is no brightfield tissue to find.

    Args:
        luminance: median of the overview (0-1).
        dark_field_luminance: below this a slide is not brightfield.

    Raises:
        SlideProblem: empty.
    """
    if luminance < dark_field_luminance:
        reason = (
            f"dark field: median luminance {luminance:.2f} is below {dark_field_luminance:g}; "
            "fluorescence has no brightfield tissue to find"
        )
        raise SlideProblem(SlideStatus.EMPTY, reason)


def saturation_threshold(counts: SaturationCounts, *, min_saturation: float) -> float:
    """Place the threshold just above the glass: its median + `GLASS_SPREADS` robust standard deviations.

    Otsu's threshold tells which pixels are glass. Itself it lies halfway to the strongest stain and would
    drop pale tissue (fat, mucus, weak counterstain), so halfway from the glass to it is the upper bound, and
    `min_saturation` the lower one. Where the class below Otsu's threshold is itself textured (at least half
    of it twice as much as tissue must be), the overview shows no glass and Otsu has cut the tissue in two:
    `min_saturation` decides.

    Source: Otsu, A threshold selection method from gray-level histograms, IEEE Trans. SMC 9 (1979).
    """
    below = np.round(counts.saturation * (_LEVELS - 1)) <= _otsu_cut(counts)
    saturation, pixels = counts.saturation[below], counts.pixels[below]
    smooth, stained = int(pixels.sum()), counts.pixels[~below]
    if not smooth or not stained.any() or 2 * counts.rough[below].sum() >= smooth:
        return min_saturation
    means = np.average(saturation, weights=pixels), np.average(counts.saturation[~below], weights=stained)
    otsu = float(sum(means)) / 2  # the middle of the gap, if there is one
    glass = _median(saturation, pixels)
    spread = MAD_TO_STD * _median(np.abs(saturation - np.float32(glass)), pixels)
    return max(min_saturation, min((glass + otsu) / 2, glass + GLASS_SPREADS * spread))


def _otsu_cut(counts: SaturationCounts) -> int:
    """Return the largest level (of 0 to 255) of the lower of the two most different classes."""
    levels = np.round(counts.saturation * (_LEVELS - 1)).astype(np.int64)
    pixels = np.bincount(levels, weights=counts.pixels, minlength=_LEVELS)
    total = pixels.sum()
    below, moment = np.cumsum(pixels), np.cumsum(pixels * np.arange(_LEVELS))
    both = np.maximum(below * (total - below), 1)
    between = (moment[-1] * below - total * moment) ** 2 / both
    return int(between.argmax())


def _median(values: Float32[np.ndarray, "values"], pixels: Int64[np.ndarray, "values"]) -> float:
    """Median of values that so many pixels have."""
    order = np.argsort(values)
    below, total = np.cumsum(pixels[order]), int(pixels.sum())
    middle = np.searchsorted(below, [(total - 1) // 2, total // 2], side="right")
    return float(values[order][middle].mean())


def _look(pixels: PixelRows, where: BitMask, *, min_texture: float) -> _Looked:
    """Count the saturations of the pixels of `where`, and mark what is textured, there or not."""
    counts = np.zeros((2, _LEVELS * _LEVELS), np.int64)
    textured = BitMask(where.shape)
    least = (TEXTURE_WINDOW_PX**2 * (_LEVELS - 1) * min_texture) ** 2
    for strip in strips_with_halo(pixels.shape, TEXTURE_WINDOW_PX // 2):
        around = pixels[strip.around]
        variance = _texture(around)[strip.inside]
        textured[strip.rows] = variance >= least
        seen = where[strip.rows]
        chroma = _chroma(around)[strip.inside]
        looked = (seen, seen & (variance >= 4 * least))
        counts += [np.bincount(chroma[which], minlength=counts.shape[1]) for which in looked]
    met = counts[0] > 0
    return _Looked(SaturationCounts(_SATURATIONS[met], counts[0][met], counts[1][met]), textured)


def _colored(pixels: PixelRows, where: BitMask, threshold: float) -> BitMask:
    """Mark the pixels of `where` with a saturation from `threshold` on."""
    colored, enough = BitMask(where.shape), threshold <= _SATURATIONS
    for strip in strips_with_halo(pixels.shape, 1):
        if where.any(strip.rows):
            colored[strip.rows] = enough[_chroma(pixels[strip.around])[strip.inside]] & where[strip.rows]
    return colored


def _chroma(pixels: Pixels) -> UInt16[np.ndarray, "height width"]:
    """Return 256 x the brightest channel + what it has more than the darkest, of smoothed pixels."""
    red, green, blue = cv2.split(cv2.GaussianBlur(pixels, (3, 3), 0))
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value.astype(np.uint16) << 8
    chroma |= value - np.minimum(np.minimum(red, green), blue)
    return chroma


def _saturations() -> Float32[np.ndarray, "values"]:
    """Return the saturation of every value of `_chroma`."""
    value, range_ = (levels.ravel() for levels in np.indices((_LEVELS, _LEVELS), np.float32) / (_LEVELS - 1))
    return np.asarray(np.minimum(range_, value) / np.maximum(value, np.float32(MIN_VALUE)), np.float32)


_SATURATIONS = _saturations()


def _texture(pixels: Pixels) -> Int32[np.ndarray, "height width"]:
    """Variance of luminance in the window around each pixel, in whole numbers: x (25 x 255)^2."""
    window, pixel_count = (TEXTURE_WINDOW_PX, TEXTURE_WINDOW_PX), TEXTURE_WINDOW_PX**2
    luminance = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    total = cv2.boxFilter(luminance, cv2.CV_32S, window, normalize=False)
    squares = cv2.sqrBoxFilter(luminance, cv2.CV_32S, window, normalize=False)
    return np.asarray(pixel_count * squares - total * total)

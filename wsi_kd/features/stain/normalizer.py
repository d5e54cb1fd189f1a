"""From one staining to another: a fit of a sample of pixels, and the function that carries tiles over."""

from collections.abc import Callable
from typing import TypeAlias

import cv2
import numpy as np
from jaxtyping import Float32, Float64

from wsi_kd.core.shapes import Pixels
from wsi_kd.features.stain.fits import CannotFit, ColorFit, Fit, Method, PixelRows, StainFit, Triple
from wsi_kd.features.stain.macenko import macenko_matrix
from wsi_kd.features.stain.pixels import StainedPixels
from wsi_kd.features.stain.reinhard import LOG_LMS_TO_LAB, RGB_TO_LMS, reinhard_fit
from wsi_kd.features.stain.vahadane import concentrations, vahadane_matrix

Normalizer: TypeAlias = Callable[[Pixels], Pixels]
Planes: TypeAlias = Float32[np.ndarray, "height width 3"]
STRENGTH_PERCENTILE = 99.0
MIN_STRENGTH = 0.1


def fit_stains(pixels: PixelRows, method: Method) -> Fit:
    """Describe the staining of a sample of pixels; glass and pen are left out of it.

    Raises:
        CannotFit: too few stained pixels, or one stain alone.
    """
    stained = StainedPixels(pixels)
    if method == "reinhard":
        return reinhard_fit(stained.pixels)
    matrix = macenko_matrix(stained.density)
    if method == "macenko":
        amounts = stained.density @ np.linalg.pinv(matrix)
    else:
        matrix = vahadane_matrix(stained.density, start=matrix)
        amounts = concentrations(stained.density, matrix)
    return StainFit(matrix, stain_strength(amounts), stained.light)


def stain_strength(amounts: Float64[np.ndarray, "pixels 2"]) -> Float64[np.ndarray, "2"]:
    """Return the 99th percentile of each stain's amounts: the maximum, without the darkest specks.

    Raises:
        CannotFit: a stain that is hardly there, which a normalizer would blow up.
    """
    strength = np.percentile(amounts, STRENGTH_PERCENTILE, axis=0)
    if strength.min() < MIN_STRENGTH:
        raise CannotFit(f"one stain alone: the other's optical density reaches {strength.min():.2g} only")
    return np.asarray(strength)


def create_normalizer(method: Method, *, source: Fit, target: Fit) -> Normalizer:
    """Return the function that shows pixels of `source` as if they were stained like `target`.

    macenko: c = d W_s^+ (least squares), I = light_t exp(-c (strength_t / strength_s) W_t); what neither
    stain explains is dropped. vahadane: the same with c >= 0. reinhard: (x - mean_s) deviation_t /
    deviation_s + mean_t in l, alpha, beta. Results are rounded to levels 0-255.
    """
    if isinstance(source, ColorFit) and isinstance(target, ColorFit):
        return _reinhard(source, target)
    assert isinstance(source, StainFit)
    assert isinstance(target, StainFit)
    return (_least_squares if method == "macenko" else _not_negative)(source, target)


def _least_squares(source: StainFit, target: StainFit) -> Normalizer:
    """One matrix from density to density: the pseudo-inverse, the strengths and the target's stains."""
    table = _densities(source.light)
    scale = np.diag(target.strength / source.strength)
    to_log_light = _affine(
        -(np.linalg.pinv(source.matrix) @ scale @ target.matrix).T, offset=np.log(target.light)
    )

    def normalize(pixels: Pixels) -> Pixels:
        log_light = cv2.transform(cv2.LUT(pixels, table), to_log_light)
        return _levels(cv2.exp(log_light, dst=log_light))

    return normalize


def _not_negative(source: StainFit, target: StainFit) -> Normalizer:
    """Concentrations by the formula of `vahadane.concentrations`.

    A third, empty stain keeps all matrices 3 x 3, for which OpenCV has vector code.
    """
    table = _densities(source.light)
    cosine = float(source.matrix[0] @ source.matrix[1])
    unbound = np.array([[1.0, -cosine], [-cosine, 1.0]]) @ source.matrix / (1.0 - cosine**2)
    to_single = np.vstack([source.matrix, np.zeros(3)]).astype(np.float32)
    to_taken = np.vstack([cosine * unbound[::-1], np.zeros(3)]).astype(np.float32)
    to_light = -(np.diag(target.strength / source.strength) @ target.matrix).T
    to_log_light = _affine(np.column_stack([to_light, np.zeros(3)]), offset=np.log(target.light))

    def normalize(pixels: Pixels) -> Pixels:
        density = cv2.LUT(pixels, table)
        taken = _positive_part(cv2.transform(density, to_taken))
        amounts = _positive_part(cv2.subtract(cv2.transform(density, to_single), taken))
        log_light = cv2.transform(amounts, to_log_light)
        return _levels(cv2.exp(log_light, dst=log_light))

    return normalize


def _positive_part(values: Planes) -> Planes:
    return np.asarray(cv2.threshold(values, 0.0, 0.0, cv2.THRESH_TOZERO, dst=values)[1])


def _reinhard(source: ColorFit, target: ColorFit) -> Normalizer:
    ratio = np.diag(target.deviation / source.deviation)
    from_lab = np.linalg.inv(LOG_LMS_TO_LAB)
    in_log_lms = from_lab @ ratio @ LOG_LMS_TO_LAB
    moved = _affine(in_log_lms, offset=from_lab @ (target.mean - ratio @ source.mean))
    to_lms = _affine(RGB_TO_LMS, offset=RGB_TO_LMS.sum(axis=1))
    to_rgb = _affine(np.linalg.inv(RGB_TO_LMS), offset=-np.ones(3))

    def normalize(pixels: Pixels) -> Pixels:
        log_lms = cv2.log(cv2.transform(pixels.astype(np.float32), to_lms))
        return _levels(cv2.transform(cv2.exp(cv2.transform(log_lms, moved)), to_rgb))

    return normalize


def _densities(light: Triple) -> Float32[np.ndarray, "1 levels 3"]:
    """Optical density of every level of every channel."""
    levels = np.maximum(np.arange(256.0), 1.0)[:, None]
    return np.asarray(np.log(light) - np.log(levels), np.float32)[None]


def _affine(
    matrix: Float64[np.ndarray, "rows columns"], *, offset: Float64[np.ndarray, "rows"]
) -> Float32[np.ndarray, "rows columns+1"]:
    return np.column_stack([matrix, offset]).astype(np.float32)


def _levels(values: Planes) -> Pixels:
    """Round to levels 0-255."""
    return np.asarray(cv2.addWeighted(values, 1.0, values, 0.0, 0.0, dtype=cv2.CV_8U))

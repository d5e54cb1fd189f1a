"""Defects drawn on a slide's pixels, with the truth of where they are: pen, fold, blur, air bubble.

Light behaves as in `stains`: what lies above the tissue absorbs on top of it (Beer-Lambert).
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
from jaxtyping import Float32

from wsi_kd.core.shapes import Mask, Pixels

Points: TypeAlias = Sequence[tuple[int, int]]
"""Corners of a line, x then y, in pixels."""

INKS: dict[str, tuple[float, float, float]] = {
    "green": (1.50, 0.40, 0.62),
    "blue": (1.60, 0.95, 0.30),
    "red": (0.12, 1.55, 1.25),
    "black": (1.55, 1.58, 1.50),
}
"""Density of one stroke in red, green and blue light."""
COVERED = 0.5
RING_SHARE = 0.04


class Marked(NamedTuple):
    """The pixels with a defect, and where it is."""

    pixels: Pixels
    where: Mask


def draw_pen(
    pixels: Pixels,
    points: Points,
    *,
    ink: str,
    width_px: float,
    edge_px: float,
    strength: float = 1.0,
    rng: np.random.Generator,
) -> Marked:
    """Draw a stroke over glass and tissue; it lies on the cover slip, so its edge is out of focus.

    Args:
        pixels: the slide; they stay as they are.
        points: the line.
        ink: one of `INKS`.
        width_px: width of the stroke.
        edge_px: standard deviation of its blurred edge.
        strength: how much ink, 1 for a full stroke.
        rng: of the streaks in the ink.
    """
    height, width = pixels.shape[:2]
    cover = cv2.GaussianBlur(_line(pixels, points, width_px), (0, 0), max(edge_px, 0.1))
    streaks = rng.normal(0, 1, (max(2, height // 32), max(2, width // 32))).astype(np.float32)
    uneven = 1 + 0.15 * cv2.resize(streaks, (width, height), interpolation=cv2.INTER_CUBIC)
    amount = np.clip(strength * cover * uneven, 0, None)[..., None]
    dyed = pixels * np.exp(-amount * np.asarray(INKS[ink], np.float32))
    return Marked(_as_pixels(dyed), cover >= COVERED)


def draw_fold(
    pixels: Pixels,
    points: Points,
    *,
    width_px: float,
    glass: tuple[float, float, float],
    layers: float = 2.0,
) -> Marked:
    """Lay the tissue beside a line over the tissue on it: densities add up, edges are sharp.

    Args:
        pixels: the slide; they stay as they are.
        points: the line of the fold.
        width_px: width of the fold.
        glass: color of bare glass, which has no density.
        layers: of tissue in the fold (2: folded once; 3: a pleat).
    """
    where = _line(pixels, points, width_px) >= COVERED
    light = np.asarray(glass, np.float32)
    density = -np.log(np.maximum(pixels, 1) / light)
    shifted = np.roll(density, round(width_px), axis=1)
    folded = light * np.exp(-(density + (layers - 1) * np.maximum(shifted, 0)))
    return Marked(_as_pixels(np.where(where[..., None], folded, pixels)), where)


def blur_area(pixels: Pixels, *, center: tuple[float, float], radius_px: float, sigma_px: float) -> Marked:
    """Bring a disk out of focus; the change is gradual over a tenth of its radius."""
    distance = _distance(pixels, center)
    weight = np.clip((radius_px - distance) / (0.1 * radius_px) + 0.5, 0, 1)[..., None]
    blurred = cv2.GaussianBlur(pixels, (0, 0), sigma_px)
    return Marked(_as_pixels(weight * blurred + (1 - weight) * pixels), distance <= radius_px)


def draw_bubble(pixels: Pixels, *, center: tuple[float, float], radius_px: float, sigma_px: float) -> Marked:
    """Put an air bubble below the cover slip: a dark ring that refracts light away, and no focus inside."""
    blurred = blur_area(pixels, center=center, radius_px=radius_px, sigma_px=sigma_px)
    ring_px = max(1.0, RING_SHARE * radius_px)
    offset = (_distance(pixels, center) - radius_px) / ring_px
    light = 1 - 0.75 * np.exp(-0.5 * offset**2)
    return Marked(_as_pixels(blurred.pixels * light[..., None]), blurred.where)


def _line(pixels: Pixels, points: Points, width_px: float) -> Float32[np.ndarray, "height width"]:
    canvas = np.zeros(pixels.shape[:2], np.float32)
    corners = np.asarray(points, np.int32)
    cv2.polylines(canvas, [corners], isClosed=False, color=1.0, thickness=max(1, round(width_px)))
    return canvas


def _distance(pixels: Pixels, center: tuple[float, float]) -> Float32[np.ndarray, "height width"]:
    rows, columns = np.indices(pixels.shape[:2], np.float32)
    return np.asarray(np.hypot(columns - center[0], rows - center[1]), np.float32)


def _as_pixels(values: np.ndarray) -> Pixels:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)

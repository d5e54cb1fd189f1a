"""From stain concentrations to the pixels a scanner stores: Beer-Lambert, then blur and sensor noise.

Transmitted light I = I0 exp(-(c_H v_H + c_E v_E)), one equation a color channel: I0 the light through bare
glass, c the concentration of hematoxylin and eosin, v the absorption color of each stain (Ruifrok and
Johnston, Anal. Quant. Cytol. Histol. 2001).
"""

from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
from jaxtyping import Float32

from wsi_kd.core.shapes import Pixels

Concentration: TypeAlias = Float32[np.ndarray, "height width"]
"""How much of a stain each pixel holds; 1 is a dark nucleus (hematoxylin) or a red blood cell (eosin)."""

Color: TypeAlias = tuple[float, float, float]

HEMATOXYLIN: Color = (0.78, 0.90, 0.38)
EOSIN: Color = (0.13, 0.92, 0.44)
BAND_PX = 256


class Stain(NamedTuple):
    """One slide's staining and scanner: absorption colors, light through glass (0-255), blur and noise."""

    hematoxylin: Color
    eosin: Color
    glass: Color
    blur_px: float
    noise: float
    jpeg_quality: int


def draw_stain(rng: np.random.Generator, *, site: int) -> Stain:
    """Draw the staining of one slide; sites (0, 1) differ in scanner and stain, slides differ even more."""
    eosin_strength = rng.uniform(0.72, 1.35)
    hematoxylin_strength = rng.uniform(0.78, 1.28)
    brightness = rng.uniform(224, 248)
    tint = np.array([1.0, 0.985, 1.0] if site == 0 else [0.985, 0.985, 0.97]) + rng.normal(0, 0.004, 3)
    return Stain(
        hematoxylin=_color(hematoxylin_strength * (np.array(HEMATOXYLIN) + rng.normal(0, 0.02, 3))),
        eosin=_color(eosin_strength * (np.array(EOSIN) + rng.normal(0, 0.02, 3))),
        glass=_color(np.minimum(brightness * tint, 252)),
        blur_px=float(rng.uniform(0.6, 0.8) + 0.1 * site),
        noise=float(rng.uniform(1.4, 2.0)),
        jpeg_quality=int(rng.integers(80, 86)),
    )


def develop(
    hematoxylin: Concentration, eosin: Concentration, *, stain: Stain, rng: np.random.Generator
) -> Pixels:
    """Turn concentrations (height, width) into RGB pixels; the tissue is blurred, the noise is not."""
    height, width = hematoxylin.shape
    colors = np.asarray([stain.hematoxylin, stain.eosin], np.float32)
    noise = rng.standard_normal((BAND_PX, width, 3), dtype=np.float32) * np.float32(stain.noise)
    blurred = [cv2.GaussianBlur(layer, (0, 0), stain.blur_px) for layer in (hematoxylin, eosin)]
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, BAND_PX):
        band = np.stack([layer[top : top + BAND_PX] for layer in blurred], axis=-1)
        light = np.asarray(stain.glass, np.float32) * cv2.exp(cv2.transform(band, -colors.T))
        shift = int(rng.integers(0, width))
        light[:, shift:] += noise[: len(light), : width - shift]
        light[:, :shift] += noise[: len(light), width - shift :]
        pixels[top : top + BAND_PX] = np.clip(light + 0.5, 0, 255)
    return pixels


def _color(values: np.ndarray) -> Color:
    red, green, blue = (float(max(value, 0.02)) for value in values)
    return red, green, blue

"""Transparent pixels get the slide's background, so that no one downstream ever meets black glass."""

from collections.abc import Mapping

import cv2
import numpy as np
from jaxtyping import UInt8

from wsi_kd.core.shapes import Pixels
from wsi_kd.slides.protocol import WHITE

OPAQUE = 255


def composite(rgba: UInt8[np.ndarray, "height width 4"], background: tuple[int, int, int]) -> Pixels:
    """Blend straight-alpha RGBA: `(alpha color + (255 - alpha) background) / 255`, rounded."""
    rgb: Pixels = cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB)
    alpha = rgba[..., 3]
    see_through = alpha < OPAQUE
    if see_through.any():
        weight = alpha[see_through, None].astype(np.uint32)
        blend = weight * rgb[see_through] + (OPAQUE - weight) * np.asarray(background, np.uint32)
        rgb[see_through] = (blend + OPAQUE // 2) // OPAQUE
    return rgb


def background_color(properties: Mapping[str, str]) -> tuple[int, int, int]:
    """Return the color in `openslide.background-color`, white where there is none."""
    raw = properties.get("openslide.background-color", "").removeprefix("#")
    try:
        red, green, blue = bytes.fromhex(raw)
    except ValueError:
        return WHITE
    return red, green, blue

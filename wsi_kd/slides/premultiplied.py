"""OpenSlide's own pixels, BGRA with colors multiplied by alpha, straight to RGB on the slide's background.

openslide-python turns them into an RGBA image of Pillow's, which costs a sixth of the time that OpenSlide
takes for a tile; most tiles are opaque and need no more than their channels in another order. The result is
the same to the last bit.
"""

from ctypes import POINTER, c_uint32

import cv2
import numpy as np
import openslide
from jaxtyping import UInt8
from openslide import lowlevel

from wsi_kd.core.shapes import Pixels

Premultiplied = UInt8[np.ndarray, "height width 4"]
"""Blue, green, red, each multiplied by alpha / 255, and alpha."""

OPAQUE = 255
_OPAQUE_WORD = 0xFF000000


def read_premultiplied(
    slide: openslide.OpenSlide, corner: tuple[int, int], level: int, *, size: tuple[int, int]
) -> Premultiplied:
    """Read a region as OpenSlide holds it.

    Args:
        slide: an open slide.
        corner: x, y in level-0 pixels.
        level: the level that is read.
        size: width, height in pixels of the level.

    Raises:
        openslide.OpenSlideError: the region is damaged; the handle cannot be used any more.
    """
    width, height = size
    words = np.empty((height, width), "<u4")
    lowlevel._read_region(slide._osr, words.ctypes.data_as(POINTER(c_uint32)), *corner, level, width, height)
    return words.view(np.uint8).reshape(height, width, 4)


def on_background(pixels: Premultiplied, background: tuple[int, int, int]) -> Pixels:
    """Give RGB: `(alpha color + (255 - alpha) background) / 255`, rounded.

    The color is what openslide-python makes of a stored one, `255 stored // alpha`.
    """
    rgb: Pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB)
    words = pixels.view("<u4")
    if words.min(initial=_OPAQUE_WORD) >= _OPAQUE_WORD:  # alpha is the highest byte of each word
        return rgb
    alpha = pixels[..., 3]
    see_through = alpha < OPAQUE
    weight = alpha[see_through, None].astype(np.uint32)
    color = OPAQUE * rgb[see_through].astype(np.uint32) // np.maximum(weight, 1)
    blend = weight * color + (OPAQUE - weight) * np.asarray(background, np.uint32)
    rgb[see_through] = (blend + OPAQUE // 2) // OPAQUE
    return rgb

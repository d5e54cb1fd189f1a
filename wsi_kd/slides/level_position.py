"""Places between the pixels of a level: a level-0 corner divided by a downsample is seldom a whole number."""

import math
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from wsi_kd.core.shapes import Pixels

WHOLE_PX = 2.0**-8
"""A position this close to a whole pixel is one: OpenSlide interpolates in steps of 1/128."""


class LevelPosition(NamedTuple):
    """A corner in a level: whole pixels, and what the corner exceeds them by, in [0, 1)."""

    x: int
    y: int
    x_part: float
    y_part: float


def interpolates(slide_format: str) -> bool:
    """Tell whether a reader of this format interpolates between pixels; the others take the nearest."""
    return slide_format.startswith("openslide/")


def level_position(x_level0_px: int, y_level0_px: int, downsample: float, *, between: bool) -> LevelPosition:
    """Return where a level-0 corner lies in a level.

    Args:
        x_level0_px: of the corner.
        y_level0_px: of the corner.
        downsample: of the level.
        between: whether places between pixels count, or the nearest pixel.

    >>> level_position(1000, 64, 4.0, between=True)
    LevelPosition(x=250, y=16, x_part=0.0, y_part=0.0)
    >>> level_position(-3, 5, 2.0, between=True)
    LevelPosition(x=-2, y=2, x_part=0.5, y_part=0.5)
    >>> level_position(7, 5, 4.0, between=False)
    LevelPosition(x=2, y=1, x_part=0.0, y_part=0.0)
    """
    if not between:
        return LevelPosition(round(x_level0_px / downsample), round(y_level0_px / downsample), 0.0, 0.0)
    x, x_part = _split(x_level0_px / downsample)
    y, y_part = _split(y_level0_px / downsample)
    return LevelPosition(x, y, x_part, y_part)


def interpolated(
    pixels: Pixels, position: LevelPosition, *, width_px: int, height_px: int
) -> UInt8[np.ndarray, "rows columns 3"]:
    """Move the corner of `pixels` by the parts of a pixel: bilinear, as OpenSlide does it.

    Args:
        pixels: from the whole pixel on, one row or column more than asked for where there is a part.
        position: where the corner lies.
        width_px: of the result.
        height_px: of the result.
    """
    if not position.x_part and not position.y_part:
        return pixels
    center = ((width_px - 1) / 2 + position.x_part, (height_px - 1) / 2 + position.y_part)
    return np.asarray(cv2.getRectSubPix(pixels, (width_px, height_px), center))


def _split(position: float) -> tuple[int, float]:
    whole = math.floor(position + WHOLE_PX)
    part = position - whole
    return whole, part if part > WHOLE_PX else 0.0

"""Geometry whose frame and unit stand in its field names."""

from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle in level-0 pixels: top-left corner, width, height."""

    x_level0_px: int
    y_level0_px: int
    width_level0_px: int
    height_level0_px: int

"""Units as types: a length names its frame, a resolution is always micrometers per pixel."""

from typing import NamedTuple, NewType

Um = NewType("Um", float)
"""A length on the glass in micrometers."""

Mpp = NewType("Mpp", float)
"""Micrometers per pixel."""

Level0Px = NewType("Level0Px", int)
"""A length or position in pixels of the slide's finest level."""


class Box(NamedTuple):
    """A rectangle in level-0 pixels: top-left corner, width, height."""

    x_level0_px: int
    y_level0_px: int
    width_level0_px: int
    height_level0_px: int

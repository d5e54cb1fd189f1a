"""A slide's frame: where its level 0 lies in the frames that other programs count in."""

import math
from collections.abc import Mapping
from typing import NamedTuple

CENTER_KEYS = ("hamamatsu.XOffsetFromSlideCentre", "hamamatsu.YOffsetFromSlideCentre")
NM_PER_UM = 1000.0


class SlideFrame(NamedTuple):
    """Geometry of a slide by which annotations are moved into level 0 and out of it."""

    origin: tuple[int, int]
    """Level-0 corner of the slide's bounds: QuPath counts from it."""
    width_level0_px: int
    height_level0_px: int
    mpp_x: float
    mpp_y: float
    center_nm: tuple[float, float] | None
    """Middle of level 0 in nm from the middle of the glass; None where the scanner does not tell it."""

    @property
    def mpp(self) -> float | None:
        """Resolution in um/px, the geometric mean of both axes; None for a slide that was not opened."""
        return math.sqrt(self.mpp_x * self.mpp_y) if self.width_level0_px else None

    def level0_from_nm(self, x_nm: float, y_nm: float) -> tuple[float, float]:
        """Turn nm from the middle of the glass (NDP.view's frame) into level-0 pixels.

        x_level0 = (x_nm - center_x_nm) / (1000 mpp_x) + width / 2, the same for y.

        >>> SlideFrame((0, 0), 1000, 800, 0.5, 0.5, (2000.0, -1000.0)).level0_from_nm(2500.0, -1000.0)
        (501.0, 400.0)
        """
        center_x_nm, center_y_nm = self.center_nm or (0.0, 0.0)
        x = (x_nm - center_x_nm) / (NM_PER_UM * self.mpp_x) + self.width_level0_px / 2
        y = (y_nm - center_y_nm) / (NM_PER_UM * self.mpp_y) + self.height_level0_px / 2
        return x, y

    def nm_from_level0(self, x_level0_px: float, y_level0_px: float) -> tuple[float, float]:
        """Turn level-0 pixels into nm from the middle of the glass: the inverse of `level0_from_nm`."""
        center_x_nm, center_y_nm = self.center_nm or (0.0, 0.0)
        x_nm = (x_level0_px - self.width_level0_px / 2) * NM_PER_UM * self.mpp_x + center_x_nm
        y_nm = (y_level0_px - self.height_level0_px / 2) * NM_PER_UM * self.mpp_y + center_y_nm
        return x_nm, y_nm


NOMINAL_FRAME = SlideFrame((0, 0), 0, 0, 1.0, 1.0, (0.0, 0.0))
"""Stands in for a slide that was not opened: shapes can be checked in it, and nm become um."""


def slide_center_nm(properties: Mapping[str, str]) -> tuple[float, float] | None:
    """Return where the middle of level 0 lies in nm from the middle of the glass, if the scanner tells it."""
    try:
        x, y = (float(properties[key]) for key in CENTER_KEYS)
    except (KeyError, ValueError):
        return None
    return (x, y) if math.isfinite(x) and math.isfinite(y) else None

"""Rings drawn by people: checked, closed into areas, repaired where they cross themselves."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from wsi_kd.core.errors import BadInput
from wsi_kd.tissue.crossings import even_odd

MIN_CORNERS = 3
MAX_LEVEL0_PX = 1e9
"""Farthest that a coordinate may lie from level 0's corner, in pixels: areas stay exact numbers."""
ELLIPSE_CORNERS = 256
"""Corners of the polygon that stands for an ellipse: 0.01 % less area, edges off by 0.008 % of a radius."""


def ring(points: Sequence[tuple[float, float]], *, where: str) -> list[tuple[float, float]]:
    """Check a ring: at least three different corners, every coordinate finite and of a size slides have.

    Raises:
        BadInput: naming `where`.
    """
    if not all(math.isfinite(value) for point in points for value in point):
        raise BadInput(f"{where}: a coordinate that is no finite number; draw it again")
    farthest = max((abs(value) for point in points for value in point), default=0.0)
    if farthest > MAX_LEVEL0_PX:
        raise BadInput(f"{where}: a coordinate of {farthest:.3g} pixels, beyond any slide; draw it again")
    if len(set(points)) < MIN_CORNERS:
        raise BadInput(
            f"{where}: {len(set(points))} different corners, a polygon needs 3; delete it or draw it again"
        )
    return list(points)


def repaired(area: BaseGeometry, *, where: str) -> shapely.Polygon | shapely.MultiPolygon:
    """Make rings that cross or touch themselves valid by the even-odd rule and keep what has an area.

    Raises:
        BadInput: when nothing with an area is left, or lines cross too often (`crossings.MAX_CROSSINGS`).
    """
    valid = area if area.is_valid else even_odd(area, where=where)
    parts = polygons_of(valid)
    if not parts:
        raise BadInput(f"{where}: covers no area; delete it or draw it again")
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def polygons_of(geometry: BaseGeometry) -> list[shapely.Polygon]:
    """Return the polygons with an area in a geometry of any type, in order; lines and points are dropped."""
    return [part for part in _flat(geometry) if part.geom_type == "Polygon" and part.area > 0]


def ellipse_ring(
    center: tuple[float, float], *, radius_x: float, radius_y: float
) -> list[tuple[float, float]]:
    """Return the corners of an ellipse whose axes are upright."""
    x, y = center
    angle = np.linspace(0.0, 2 * np.pi, ELLIPSE_CORNERS, endpoint=False)
    corners = np.column_stack([x + radius_x * np.cos(angle), y + radius_y * np.sin(angle)])
    return [(float(left), float(top)) for left, top in corners]


def box_ring(first: tuple[float, float], opposite: tuple[float, float]) -> list[tuple[float, float]]:
    """Return the corners of a rectangle from two opposite ones."""
    (left, top), (right, bottom) = first, opposite
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def open_corners(line: BaseGeometry) -> list[tuple[float, float]]:
    """Return the corners of a closed ring, the first one not repeated at the end."""
    return [(float(x), float(y)) for x, y in shapely.get_coordinates(line)[:-1]]


def _flat(geometry: BaseGeometry) -> Iterator[BaseGeometry]:
    for part in shapely.get_parts(geometry):
        if part.geom_type in {"Polygon", "Point", "LineString", "LinearRing"}:
            yield part
        else:
            yield from _flat(part)

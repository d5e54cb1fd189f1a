"""Outlines of a mask as an SVG drawing that lies over the slide's thumbnail."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import shapely

from wsi_kd.tissue.drawing import DrawnArea

LINE_COLORS = {"tissue": "#0a8f4c", "pen": "#d6009a", "fold": "#e07a00"}
"""Color of each class's outline; the page's legend names them."""
OTHER_COLOR = "#3c5bd8"
TOLERANCE_PX = 0.5
"""Thumbnail pixels by which a left-out corner may be off; doubled until the drawing is small enough."""
MIN_AREA_PX = 2.0
"""Pieces below this many thumbnail pixels are left out."""
MAX_CORNERS = 4000


class Outline(NamedTuple):
    """The area of one class in level-0 pixels, counted from the corner of the thumbnail."""

    name: str
    area: DrawnArea


def draw_outlines(
    outlines: Sequence[Outline], *, size_px: tuple[int, int], level0_px_per_px: float, mark: str
) -> str:
    """Return an SVG file of one path a class, in the thumbnail's pixels.

    Args:
        outlines: areas; those of one class are drawn in one color.
        size_px: width and height of the thumbnail.
        level0_px_per_px: level-0 pixels a thumbnail pixel.
        mark: a token that is kept in the drawing; letters and digits.
    """
    width, height = size_px
    paths = "".join(
        f'<path stroke="{LINE_COLORS.get(name, OTHER_COLOR)}" d="{_path(areas, level0_px_per_px)}"/>\n'
        for name, areas in _by_class(outlines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" data-mark="{mark}" '
        'fill="none" stroke-width="1.5" stroke-linejoin="round">\n'
        f"{paths}</svg>\n"
    )


def _by_class(outlines: Sequence[Outline]) -> Iterator[tuple[str, list[DrawnArea]]]:
    for name in dict.fromkeys(outline.name.casefold() for outline in outlines):
        yield name, [outline.area for outline in outlines if outline.name.casefold() == name]


def _path(areas: Sequence[DrawnArea], level0_px_per_px: float) -> str:
    scaled = shapely.transform(shapely.GeometryCollection(list(areas)), lambda xy: xy / level0_px_per_px)
    parts = [part for part in shapely.get_parts(shapely.get_parts(scaled)) if part.area >= MIN_AREA_PX]
    tolerance = TOLERANCE_PX
    lines = _lines(parts, tolerance)
    while sum(len(line.coords) for line in lines) > MAX_CORNERS:
        tolerance *= 2
        lines = _lines(parts, tolerance)
    return "".join(_closed(line) for line in lines)


def _lines(parts: Sequence[DrawnArea], tolerance_px: float) -> list[shapely.LinearRing]:
    """Simplify, drop what became too small, and return every ring."""
    simple = shapely.get_parts(shapely.simplify(parts, tolerance_px, preserve_topology=True))
    kept = [part for part in simple if part.area >= max(MIN_AREA_PX, tolerance_px**2)]
    return [line for part in kept for line in (part.exterior, *part.interiors)]


def _closed(line: shapely.LinearRing) -> str:
    corners = " ".join(f"{x:.4g} {y:.4g}" for x, y in line.coords[:-1])
    return f"M{corners}Z"

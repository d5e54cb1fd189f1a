"""What an annotation file holds, whatever its format: named areas, holes, and what covers nothing."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import shapely

from wsi_kd.tissue.rings import polygons_of

DrawnArea: TypeAlias = shapely.Polygon | shapely.MultiPolygon
Color: TypeAlias = tuple[int, int, int]

CLASS_SEPARATOR = ": "
"""Between a class and its subclass, as QuPath writes derived classes."""
HOLE_PREFIX = "Exclusion of "
"""Before a class: names the areas cut out of it, in formats that know no holes."""


class Annotation(NamedTuple):
    """An annotated area in level-0 pixels and its class (QuPath's classification, ASAP's group, a layer)."""

    name: str
    area: DrawnArea
    title: str = ""
    """What the drawing itself is called, if anything."""
    color: Color | None = None


class Area(NamedTuple):
    """A drawn area as a format's reader hands it over."""

    annotation: Annotation
    where: str
    """Names the element in messages: 'feature 3 (Tumor)'."""
    repaired: bool = False
    """Its rings crossed or touched themselves."""
    measured: bool = False
    """It carries measurements, which are not read."""


class Hole(NamedTuple):
    """An area that is cut out of the areas of a class."""

    of: str
    area: DrawnArea
    where: str
    repaired: bool = False


class PassedOver(NamedTuple):
    """Something drawn that covers nothing."""

    kind: str


Item: TypeAlias = Area | Hole | PassedOver


class Drawing(NamedTuple):
    """A whole annotation file in level-0 pixels."""

    format: str
    annotations: tuple[Annotation, ...]
    passed_over: Mapping[str, int]
    """How many elements of each kind cover nothing (points, lines, text)."""
    repaired: tuple[str, ...]
    """Elements whose rings were repaired."""
    measured: int
    """Areas with measurements."""


def collect(items: Iterable[Item], *, file_format: str) -> Drawing:
    """Join what a format's reader found, holes cut out of their areas."""
    listed = list(items)
    areas = [item for item in listed if isinstance(item, Area)]
    holes = [item for item in listed if isinstance(item, Hole)]
    passed_over = Counter(item.kind for item in listed if isinstance(item, PassedOver))
    annotations, idle = cut_holes([area.annotation for area in areas], holes)
    if idle:
        passed_over["hole outside every area"] += idle
    return Drawing(
        file_format,
        annotations,
        dict(passed_over),
        repaired=(
            *(area.where for area in areas if area.repaired),
            *(hole.where for hole in holes if hole.repaired),
        ),
        measured=sum(area.measured for area in areas),
    )


def cut_holes(annotations: Sequence[Annotation], holes: Sequence[Hole]) -> tuple[tuple[Annotation, ...], int]:
    """Cut each hole out of the areas of its class; return what is left and how many holes cut nothing.

    A hole that lies inside areas of its class is cut out of the smallest of them only, so an island that is
    drawn inside a hole stays; one that crosses outlines is cut out of every area of its class that it meets.
    Areas that vanish are left out.
    """
    cuts: dict[int, list[DrawnArea]] = {}
    idle = 0
    for name in dict.fromkeys(hole.of for hole in holes):
        members = [index for index, item in enumerate(annotations) if item.name == name]
        tree = shapely.STRtree([annotations[index].area for index in members])
        for hole in (hole for hole in holes if hole.of == name):
            around = [members[index] for index in tree.query(hole.area, predicate="covered_by")]
            met = [members[index] for index in tree.query(hole.area, predicate="intersects")]
            chosen = [min(around, key=lambda index: annotations[index].area.area)] if around else met
            idle += not chosen
            for index in chosen:
                cuts.setdefault(index, []).append(hole.area)
    kept = (_less(item, cuts[index]) if index in cuts else item for index, item in enumerate(annotations))
    return tuple(item for item in kept if not item.area.is_empty), idle


def rgb(text: str | None) -> Color | None:
    """Read a color written as #RRGGBB; None where it is none.

    >>> rgb("#F4FA58")
    (244, 250, 88)
    """
    try:
        red, green, blue = bytes.fromhex((text or "").removeprefix("#"))
    except ValueError:
        return None
    return red, green, blue


def _less(annotation: Annotation, holes: Sequence[DrawnArea]) -> Annotation:
    parts = polygons_of(shapely.difference(annotation.area, shapely.union_all(holes)))
    return annotation._replace(area=parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts))

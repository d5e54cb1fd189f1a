"""ASAP XML (CAMELYON): corners in level-0 pixels, classes as groups that may lie within groups.

`ASAP_Annotations/Annotations/Annotation[@Name, @Type, @PartOfGroup, @Color]/Coordinates/Coordinate[@Order,
@X, @Y]` and `AnnotationGroups/Group[@Name, @PartOfGroup, @Color]`. ASAP knows no holes. A group that lies
within another and is called an exclusion cuts holes out of that other group's areas; CAMELYON's own `_2`, a
group by itself, stays a class, for `tile.exclude_names` to cut out.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement

import shapely

from wsi_kd.core.errors import BadInput
from wsi_kd.tissue.annotation_xml import xml_document, xml_number
from wsi_kd.tissue.drawing import (
    CLASS_SEPARATOR,
    HOLE_PREFIX,
    Annotation,
    Area,
    Color,
    Hole,
    Item,
    PassedOver,
    rgb,
)
from wsi_kd.tissue.rings import open_corners, repaired, ring

ROOT = "ASAP_Annotations"
AREA_TYPES = ("polygon", "spline", "rectangle")
NO_AREA_TYPES = ("dot", "pointset", "measurement", "none")
"""Annotation types that cover nothing: passed over."""
HOLE_GROUPS = ("exclusion", "hole", "ignore", "_2")
"""Beginnings of the names of groups that, within another group, hold its holes."""
NO_GROUP = "None"
"""What ASAP writes for no group."""
DEFAULT_COLOR: Color = (244, 250, 88)


class _Class(NamedTuple):
    """What a group stands for: a class, or the holes of one."""

    name: str
    is_hole: bool


def read_asap(root: Element, *, where: str) -> Iterator[Item]:
    """Yield what an ASAP document holds, in level-0 pixels.

    Raises:
        BadInput: naming the annotation: a foreign type, corners that are no numbers, no area; groups that lie
            within each other in a circle.
    """
    classes = _classes(root, where=where)
    for index, element in enumerate(root.iterfind("Annotations/Annotation")):
        title = element.get("Name", "")
        place = f"{where}: annotation {index} ({title!r})"
        kind = element.get("Type", "Polygon").lower()
        if kind in NO_AREA_TYPES:
            yield PassedOver(kind)
            continue
        if kind not in AREA_TYPES:
            raise BadInput(f"{place}: type {element.get('Type')!r}; expected one of {', '.join(AREA_TYPES)}")
        drawn = shapely.Polygon(ring(_corners(element, where=place), where=place))
        area, crossed = repaired(drawn, where=place), not drawn.is_valid
        group = element.get("PartOfGroup", NO_GROUP)
        found = classes.get(group, _Class("" if group == NO_GROUP else group, is_hole=False))
        if found.is_hole:
            yield Hole(found.name, area, place, crossed)
        else:
            annotation = Annotation(found.name, area, title, rgb(element.get("Color")))
            yield Area(annotation, place, crossed)


def write_asap(annotations: Sequence[Annotation]) -> str:
    """Return an ASAP document; areas of several pieces become several annotations, holes a group within."""
    root = Element(ROOT)
    listed = SubElement(root, "Annotations")
    colors: dict[str, Color] = {}
    with_holes: set[str] = set()
    for item in annotations:
        color = item.color or colors.get(item.name, DEFAULT_COLOR)
        colors.setdefault(item.name, color)
        for part in shapely.get_parts(item.area):
            title = item.title or f"Annotation {len(listed)}"
            _write_ring(listed, part.exterior, title=title, group=item.name, color=color)
            for hole in part.interiors:
                with_holes.add(item.name)
                title = f"Annotation {len(listed)}"
                _write_ring(listed, hole, title=title, group=HOLE_PREFIX + item.name, color=color)
    groups = SubElement(root, "AnnotationGroups")
    for name, color in colors.items():
        if name:
            _write_group(groups, name, within=NO_GROUP, color=color)
        if name in with_holes:
            _write_group(groups, HOLE_PREFIX + name, within=name or NO_GROUP, color=color)
    return xml_document(root)


def _classes(root: Element, *, where: str) -> dict[str, _Class]:
    """Return what each group stands for, groups within groups as 'outer: inner'."""
    within = {
        group.get("Name", ""): group.get("PartOfGroup", NO_GROUP)
        for group in root.iterfind("AnnotationGroups/Group")
    }
    classes = {}
    for name in within:
        *outer, own = _chain(name, within, where=where)
        of_no_class = name == HOLE_PREFIX  # written for holes of areas without a class
        is_hole = of_no_class or (bool(outer) and own.casefold().startswith(HOLE_GROUPS))
        parts = outer if is_hole else [*outer, own]
        classes[name] = _Class(CLASS_SEPARATOR.join(parts), is_hole)
    return classes


def _chain(name: str, within: Mapping[str, str], *, where: str) -> list[str]:
    chain = [name]
    while (outer := within.get(chain[0], NO_GROUP)) not in {NO_GROUP, ""}:
        if outer in chain:
            raise BadInput(f"{where}: group {name!r} lies within itself; correct PartOfGroup of {outer!r}")
        chain.insert(0, outer)
    return chain


def _corners(element: Element, *, where: str) -> list[tuple[float, float]]:
    ordered = []
    for index, corner in enumerate(element.iterfind("Coordinates/Coordinate")):
        order, x, y = (
            xml_number(corner.get(key), where=f"{where}, coordinate {index}, {key}")
            for key in ("Order", "X", "Y")
        )
        if not math.isfinite(order):
            raise BadInput(f"{where}, coordinate {index}, Order: {corner.get('Order')!r}; expected a number")
        ordered.append((order, x, y))
    return [(x, y) for _, x, y in sorted(ordered, key=lambda corner: corner[0])]


def _write_ring(listed: Element, line: shapely.LinearRing, *, title: str, group: str, color: Color) -> None:
    attributes = {
        "Name": title,
        "Type": "Polygon",
        "PartOfGroup": group or NO_GROUP,
        "Color": _hex(color),
    }
    coordinates = SubElement(SubElement(listed, "Annotation", attributes), "Coordinates")
    for order, (x, y) in enumerate(open_corners(line)):
        SubElement(coordinates, "Coordinate", {"Order": str(order), "X": repr(x), "Y": repr(y)})


def _write_group(groups: Element, name: str, *, within: str, color: Color) -> None:
    group = SubElement(groups, "Group", {"Name": name, "PartOfGroup": within, "Color": _hex(color)})
    SubElement(group, "Attributes")


def _hex(color: Color) -> str:
    return "#{:02X}{:02X}{:02X}".format(*color)

"""Hamamatsu's NDPA: shapes in nm from the middle of the glass, the title as class.

`annotations/ndpviewstate[title, details, coordformat]/annotation[@type, @color]` with `pointlist/point[x, y]`
and `closed` (freehand; a rectangle is a freehand of `specialtype` rectangle), or `x, y, radius` (circle).
Rulers, pointers, pins and open lines cover nothing. The format knows no holes: an area titled 'Exclusion of
<class>' is cut out of the areas of that class.
"""

from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element, SubElement

import shapely

from wsi_kd.core.errors import BadInput
from wsi_kd.slides.frame import NM_PER_UM, SlideFrame
from wsi_kd.tissue.annotation_xml import xml_document, xml_number
from wsi_kd.tissue.drawing import HOLE_PREFIX, Annotation, Area, Color, Hole, Item, PassedOver, rgb
from wsi_kd.tissue.rings import ellipse_ring, open_corners, repaired, ring

ROOT = "annotations"
AREA_TYPES = ("freehand", "rectangle", "circle")
NO_AREA_TYPES = ("freehandline", "linearmeasure", "pointer", "pin", "text", "image")
UNIT = "nanometers"
NO_CENTER = (
    "NDPA counts from the middle of the glass, and the slide does not tell where its own middle lies "
    "(hamamatsu.XOffsetFromSlideCentre)"
)
DEFAULT_COLOR: Color = (0, 0, 0)


def read_ndpa(root: Element, *, frame: SlideFrame, where: str) -> Iterator[Item]:
    """Yield what an NDPA document holds, moved into level-0 pixels.

    Raises:
        BadInput: naming the annotation: another unit, a foreign type, corners that are no numbers, no area; a
            slide whose place on the glass is unknown.
    """
    if frame.center_nm is None:
        raise BadInput(f"{where}: {NO_CENTER}; annotate it in QuPath and export GeoJSON")
    for state in root.iterfind("ndpviewstate"):
        title = (state.findtext("title") or "").strip()
        place = f"{where}: annotation {state.get('id', '?')} ({title!r})"
        unit = (state.findtext("coordformat") or UNIT).strip().lower()
        if unit != UNIT:
            raise BadInput(f"{place}: coordformat {unit!r}; expected {UNIT}")
        for element in state.iterfind("annotation"):
            kind = _kind(element, where=place)
            if kind in NO_AREA_TYPES:
                yield PassedOver(kind)
                continue
            drawn = shapely.Polygon(ring(_outline(element, kind, frame=frame, where=place), where=place))
            area, crossed = repaired(drawn, where=place), not drawn.is_valid
            if title.startswith(HOLE_PREFIX.strip()):
                yield Hole(title.removeprefix(HOLE_PREFIX.strip()).strip(), area, place, crossed)
            else:
                details = (state.findtext("details") or "").strip()
                yield Area(Annotation(title, area, details, rgb(element.get("color"))), place, crossed)


def write_ndpa(annotations: Sequence[Annotation], *, frame: SlideFrame) -> str:
    """Return an NDPA document, corners rounded to nm; areas of several pieces become several annotations.

    Raises:
        BadInput: the slide's place on the glass is unknown.
    """
    if frame.center_nm is None:
        raise BadInput(f"{NO_CENTER}; convert to another format")
    root = Element(ROOT)
    for item in annotations:
        for part in shapely.get_parts(item.area):
            _write_ring(root, part.exterior, item=item, title=item.name, frame=frame)
            for hole in part.interiors:
                _write_ring(root, hole, item=item, title=HOLE_PREFIX + item.name, frame=frame)
    return xml_document(root)


def _kind(element: Element, *, where: str) -> str:
    """Name the type; an open freehand line covers nothing."""
    kind = element.get("type", "").lower()
    if kind not in AREA_TYPES + NO_AREA_TYPES:
        raise BadInput(f"{where}: type {element.get('type')!r}; expected one of {', '.join(AREA_TYPES)}")
    is_open = kind == "freehand" and (element.findtext("closed") or "1").strip() == "0"
    return "freehandline" if is_open else kind


def _outline(element: Element, kind: str, *, frame: SlideFrame, where: str) -> list[tuple[float, float]]:
    if kind == "circle":
        x_nm, y_nm, radius_nm = (
            xml_number(element.findtext(key), where=f"{where}, {key}") for key in ("x", "y", "radius")
        )
        if radius_nm <= 0:
            raise BadInput(f"{where}: a radius of {radius_nm:g} nm; delete it or draw it again")
        return ellipse_ring(
            frame.level0_from_nm(x_nm, y_nm),
            radius_x=radius_nm / (NM_PER_UM * frame.mpp_x),
            radius_y=radius_nm / (NM_PER_UM * frame.mpp_y),
        )
    return [
        frame.level0_from_nm(
            xml_number(point.findtext("x"), where=f"{where}, point {index}, x"),
            xml_number(point.findtext("y"), where=f"{where}, point {index}, y"),
        )
        for index, point in enumerate(element.iterfind("pointlist/point"))
    ]


def _write_ring(
    root: Element, line: shapely.LinearRing, *, item: Annotation, title: str, frame: SlideFrame
) -> None:
    corners = [frame.nm_from_level0(x, y) for x, y in open_corners(line)]
    state = SubElement(root, "ndpviewstate", {"id": str(len(root) + 1)})
    x_nm, y_nm = corners[0]
    entries = {
        "title": title,
        "details": item.title,
        "coordformat": UNIT,
        "lens": "1.0",
        "x": str(round(x_nm)),
        "y": str(round(y_nm)),
        "z": "0",
        "showtitle": "0",
        "showhistogram": "0",
        "showlineprofile": "0",
    }
    for key, text in entries.items():
        SubElement(state, key).text = text
    color = "#{:02x}{:02x}{:02x}".format(*(item.color or DEFAULT_COLOR))
    attributes = {"type": "freehand", "displayname": "AnnotateFreehand", "color": color}
    annotation = SubElement(state, "annotation", attributes)
    SubElement(annotation, "measuretype").text = "0"
    SubElement(annotation, "closed").text = "1"
    points = SubElement(annotation, "pointlist")
    for x_nm, y_nm in corners:
        point = SubElement(points, "point")
        SubElement(point, "x").text = str(round(x_nm))
        SubElement(point, "y").text = str(round(y_nm))

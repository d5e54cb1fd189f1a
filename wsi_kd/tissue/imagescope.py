"""Layers of regions in level-0 pixels: Aperio ImageScope's XML and HALO's .annotations.

`Annotations/Annotation[@Name, @LineColor]/Regions/Region[@Type, @NegativeROA, @Text]/Vertices/Vertex[@X,
@Y]`; HALO calls its corners `V` and its types by word. A layer is a class, named by `Name`, else by its
attribute 'Description'; of a layer without a name the region's text names the class. `NegativeROA="1"` is a
hole in the layer's areas. `LineColor` is a whole number, blue x 65536 + green x 256 + red.
"""

from collections.abc import Iterator, Sequence
from typing import Final
from xml.etree.ElementTree import Element, SubElement

import shapely

from wsi_kd.core.errors import BadInput
from wsi_kd.tissue.annotation_xml import xml_document, xml_number
from wsi_kd.tissue.drawing import Annotation, Area, Color, Hole, Item, PassedOver
from wsi_kd.tissue.rings import box_ring, ellipse_ring, open_corners, repaired, ring

ROOT = "Annotations"
TYPES: Final = {
    "0": "polygon",
    "1": "rectangle",
    "2": "ellipse",
    "3": "arrow",
    "4": "ruler",
    "polygon": "polygon",
    "rectangle": "rectangle",
    "ellipse": "ellipse",
    "arrow": "arrow",
    "ruler": "ruler",
    "pin": "pin",
}
"""ImageScope's types by number, HALO's by word."""
NO_AREA_TYPES = ("arrow", "ruler", "pin")
DEFAULT_COLOR: Color = (0, 255, 0)
_TWO_CORNERS = 2


def is_halo(root: Element) -> bool:
    """Tell HALO's file from ImageScope's: both have the root `Annotations`."""
    return root.find("Annotation/Regions/Region/Vertices/V") is not None


def read_imagescope(root: Element, *, where: str) -> Iterator[Item]:
    """Yield what ImageScope's or HALO's document holds, in level-0 pixels.

    Raises:
        BadInput: naming layer and region: a foreign type, corners that are no numbers, no area.
    """
    for number, layer in enumerate(root.iterfind("Annotation")):
        layer_name = layer.get("Name") or _description(layer)
        color = _color(layer.get("LineColor"))
        for index, region in enumerate(layer.iterfind("Regions/Region")):
            place = f"{where}: layer {number} ({layer_name!r}), region {index}"
            kind = TYPES.get(region.get("Type", "0").lower())
            if kind is None:
                raise BadInput(
                    f"{place}: type {region.get('Type')!r}; expected one of {', '.join(sorted(TYPES))}"
                )
            if kind in NO_AREA_TYPES:
                yield PassedOver(kind)
                continue
            drawn = shapely.Polygon(ring(_outline(region, kind, where=place), where=place))
            area, crossed = repaired(drawn, where=place), not drawn.is_valid
            if region.get("NegativeROA") == "1":
                yield Hole(layer_name, area, place, crossed)
            else:
                text = region.get("Text", "")
                annotation = Annotation(layer_name or text, area, text, color)
                yield Area(annotation, place, crossed)


def write_imagescope(annotations: Sequence[Annotation], *, mpp: float | None) -> str:
    """Return ImageScope's document, a layer a class; areas of several pieces become several regions.

    Args:
        annotations: areas in level-0 pixels.
        mpp: um/px of level 0, if known: ImageScope shows areas by it.
    """
    root = Element(ROOT, {} if mpp is None else {"MicronsPerPixel": repr(mpp)})
    for number, name in enumerate(dict.fromkeys(item.name for item in annotations), start=1):
        members = [item for item in annotations if item.name == name]
        regions = _write_layer(root, name, number=number, color=members[0].color or DEFAULT_COLOR)
        for item in members:
            for part in shapely.get_parts(item.area):
                text = item.title if item.name else ""  # without a layer's name it would be read as the class
                _write_region(regions, part.exterior, text=text, is_hole=False)
                for hole in part.interiors:
                    _write_region(regions, hole, text="", is_hole=True)
    return xml_document(root)


def _description(layer: Element) -> str:
    for attribute in layer.iterfind("Attributes/Attribute"):
        if attribute.get("Name") == "Description":
            return attribute.get("Value", "")
    return ""


def _outline(region: Element, kind: str, *, where: str) -> list[tuple[float, float]]:
    vertices = region.find("Vertices")
    corners = [
        (
            xml_number(corner.get("X"), where=f"{where}, vertex {index}, X"),
            xml_number(corner.get("Y"), where=f"{where}, vertex {index}, Y"),
        )
        for index, corner in enumerate(() if vertices is None else vertices)
        if corner.tag in {"Vertex", "V"}
    ]
    if kind == "polygon" or (kind == "rectangle" and len(corners) != _TWO_CORNERS):
        return corners
    if len(corners) != _TWO_CORNERS:
        raise BadInput(f"{where}: {len(corners)} corners, an {kind} needs the two of its box; draw it again")
    first, opposite = corners
    if kind == "rectangle":
        return box_ring(first, opposite)
    (left, top), (right, bottom) = first, opposite
    return ellipse_ring(
        ((left + right) / 2, (top + bottom) / 2),
        radius_x=abs(right - left) / 2,
        radius_y=abs(bottom - top) / 2,
    )


def _color(text: str | None) -> Color | None:
    if text is None or not text.strip().isdecimal():
        return None
    value = int(text)
    return value & 255, value >> 8 & 255, value >> 16 & 255


def _write_layer(root: Element, name: str, *, number: int, color: Color) -> Element:
    red, green, blue = color
    layer = SubElement(
        root,
        "Annotation",
        {
            "Id": str(number),
            "Name": name,
            "ReadOnly": "0",
            "NameReadOnly": "0",
            "LineColorReadOnly": "0",
            "Incremental": "0",
            "Type": "4",
            "LineColor": str(blue << 16 | green << 8 | red),
            "Visible": "1",
            "Selected": "0",
            "MarkupImagePath": "",
            "MacroName": "",
        },
    )
    attributes = SubElement(layer, "Attributes")
    SubElement(attributes, "Attribute", {"Name": "Description", "Id": "0", "Value": name})
    regions = SubElement(layer, "Regions")
    SubElement(regions, "RegionAttributeHeaders")
    SubElement(layer, "Plots")
    return regions


def _write_region(regions: Element, line: shapely.LinearRing, *, text: str, is_hole: bool) -> None:
    number = str(len(regions))  # the headers stand first, so regions count from 1
    region = SubElement(
        regions,
        "Region",
        {
            "Id": number,
            "Type": "0",
            "Zoom": "1",
            "Selected": "0",
            "ImageLocation": "",
            "ImageFocus": "-1",
            "Length": repr(float(shapely.length(line))),
            "Area": repr(float(shapely.Polygon(line).area)),
            "Text": text,
            "NegativeROA": "1" if is_hole else "0",
            "InputRegionId": "0",
            "Analyze": "0" if is_hole else "1",
            "DisplayId": number,
        },
    )
    SubElement(region, "Attributes")
    vertices = SubElement(region, "Vertices")
    for x, y in open_corners(line):
        SubElement(vertices, "Vertex", {"X": repr(x), "Y": repr(y), "Z": "0"})

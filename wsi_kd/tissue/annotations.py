"""Annotations drawn by people: GeoJSON (QuPath) and ASAP XML (CAMELYON), as polygons in the level-0 frame."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

import shapely
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring
from shapely import affinity

from wsi_kd.core.errors import BadInput
from wsi_kd.tissue.geojson import areas_of, read_geojson, repaired, ring

AREA_TYPES = ("polygon", "spline", "rectangle")
NO_AREA_TYPES = ("dot", "pointset", "measurement", "none")
"""ASAP's annotation types that cover nothing: passed over."""


class Annotation(NamedTuple):
    """An annotated area in level-0 pixels and its class (QuPath's classification, ASAP's PartOfGroup)."""

    name: str
    area: shapely.Polygon | shapely.MultiPolygon


def read_annotations(path: Path, *, origin: tuple[int, int]) -> tuple[Annotation, ...]:
    """Read the areas of an annotation file; points and lines are passed over, self-crossing rings repaired.

    Args:
        path: GeoJSON or ASAP XML, told apart by content.
        origin: level-0 corner of the slide's bounds. GeoJSON is in QuPath's frame, so the origin is added;
            ASAP XML counts from level 0's corner and is taken as it stands.

    Raises:
        BadInput: with the file and the element: not readable, foreign types, areas without extent, XML
            entities.
    """
    try:
        head = path.read_bytes()[:256].removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); expected GeoJSON or ASAP XML") from None
    if path.suffix.lower() == ".xml" or head.startswith(b"<"):
        return tuple(_asap(path))
    x, y = origin
    return tuple(
        Annotation(name, affinity.translate(area, x, y))
        for name, area in areas_of(read_geojson(path), where=str(path))
    )


def _asap(path: Path) -> Iterator[Annotation]:
    try:
        root = fromstring(path.read_bytes())
    except DefusedXmlException:
        raise BadInput(
            f"{path}: declares XML entities, which are refused; export it from ASAP again"
        ) from None
    except (ParseError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not valid XML ({error}); expected ASAP annotations") from None
    if root.tag != "ASAP_Annotations":
        raise BadInput(f"{path}: root element <{root.tag}>; expected <ASAP_Annotations>")
    for index, element in enumerate(root.iterfind("Annotations/Annotation")):
        where = f"{path}: annotation {index} ({element.get('Name', '')!r})"
        kind = element.get("Type", "Polygon").lower()
        if kind in AREA_TYPES:
            corners = ring(_corners(element, where=where), where=where)
            yield Annotation(element.get("PartOfGroup", ""), repaired(shapely.Polygon(corners), where=where))
        elif kind not in NO_AREA_TYPES:
            raise BadInput(f"{where}: type {element.get('Type')!r}; expected one of {', '.join(AREA_TYPES)}")


def _corners(element: Element, *, where: str) -> list[tuple[float, float]]:
    ordered = []
    for index, corner in enumerate(element.iterfind("Coordinates/Coordinate")):
        order, x, y = (
            _number(corner.get(key), where=f"{where}, coordinate {index}, {key}")
            for key in ("Order", "X", "Y")
        )
        ordered.append((order, x, y))
    return [(x, y) for _, x, y in sorted(ordered, key=lambda corner: corner[0])]


def _number(text: str | None, *, where: str) -> float:
    """Read a number; ASAP writes the decimal comma of the user's locale."""
    try:
        return float((text or "").replace(",", "."))
    except ValueError:
        raise BadInput(f"{where}: {text!r}; expected a number") from None

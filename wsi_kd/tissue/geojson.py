"""Areas in GeoJSON as QuPath writes it: FeatureCollection, list of features, one feature, a bare geometry."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import shapely
from shapely.geometry.base import BaseGeometry

from wsi_kd.core.errors import BadInput

AREAS = ("Polygon", "MultiPolygon")
NO_AREAS = ("Point", "MultiPoint", "LineString", "MultiLineString")
"""Geometries that are passed over: they cover nothing."""
_MIN_CORNERS = 3


class NamedArea(NamedTuple):
    """A polygon or multipolygon, valid and with an area, and its class name ('' where it has none)."""

    name: str
    area: shapely.Polygon | shapely.MultiPolygon


def read_geojson(path: Path) -> Any:
    """Parse a GeoJSON file; returns the JSON value.

    Raises:
        BadInput: when the file cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); expected GeoJSON") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not valid JSON ({error}); export it from QuPath as GeoJSON") from None


def areas_of(value: Any, *, where: str) -> list[NamedArea]:
    """Read every area out of a GeoJSON value, coordinates as they stand; points and lines are passed over.

    Raises:
        BadInput: naming `where` and the element: unknown types, rings that are no list of number pairs,
            polygons without an area.
    """
    return [
        NamedArea(name, _area(geometry, where=f"{where}: {element}"))
        for element, name, geometry in _geometries(value, where=where)
        if geometry["type"] not in NO_AREAS
    ]


def repaired(area: BaseGeometry, *, where: str) -> shapely.Polygon | shapely.MultiPolygon:
    """Make rings that cross or touch themselves valid (shapely.make_valid) and keep what has an area.

    Raises:
        BadInput: when nothing with an area is left.
    """
    valid = area if area.is_valid else shapely.make_valid(area)
    parts = [part for part in _flat(valid) if part.geom_type == "Polygon" and part.area > 0]
    if not parts:
        raise BadInput(f"{where}: covers no area; delete it or draw it again")
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def ring(points: Sequence[tuple[float, float]], *, where: str) -> list[tuple[float, float]]:
    """Check a ring: at least three different corners, every coordinate finite.

    Raises:
        BadInput: naming `where`.
    """
    if not all(math.isfinite(value) for point in points for value in point):
        raise BadInput(f"{where}: a coordinate that is no finite number; draw it again")
    if len(set(points)) < _MIN_CORNERS:
        raise BadInput(
            f"{where}: {len(set(points))} different corners, a polygon needs 3; delete it or draw it again"
        )
    return list(points)


def _geometries(value: Any, *, where: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    features: Any = value if isinstance(value, list) else [value]
    if isinstance(value, dict) and value.get("type") == "FeatureCollection":
        features = value.get("features")
    if not isinstance(features, list):
        raise BadInput(f"{where}: `features` is no list; export it from QuPath as GeoJSON")
    for index, feature in enumerate(features):
        element = f"feature {index}"
        kind = feature.get("type") if isinstance(feature, dict) else None
        name = _class_name(feature) if kind == "Feature" else ""
        geometry = feature.get("geometry") if kind == "Feature" else feature
        element += f" ('{name}')" if name else ""
        yield from ((element, name, part) for part in _simple(geometry, where=f"{where}: {element}"))


def _simple(geometry: Any, *, where: str) -> Iterator[dict[str, Any]]:
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind == "GeometryCollection":
        for part in geometry.get("geometries") or []:
            yield from _simple(part, where=where)
    elif kind in AREAS or kind in NO_AREAS:
        yield geometry
    else:
        expected = ", ".join(("FeatureCollection", "Feature", *AREAS))
        raise BadInput(f"{where}: type {kind!r}; expected one of {expected}")


def _class_name(feature: dict[str, Any]) -> str:
    properties = feature.get("properties")
    classification = properties.get("classification") if isinstance(properties, dict) else None
    name = classification.get("name") if isinstance(classification, dict) else None
    if name is None and isinstance(classification, dict) and isinstance(classification.get("names"), list):
        name = ": ".join(str(part) for part in classification["names"])
    return str(name or "")


def _area(geometry: dict[str, Any], *, where: str) -> shapely.Polygon | shapely.MultiPolygon:
    coordinates = geometry.get("coordinates")
    polygons = [coordinates] if geometry["type"] == "Polygon" else coordinates
    if not isinstance(polygons, list) or not polygons:
        raise BadInput(f"{where}: no coordinates; delete it or draw it again")
    parts = [repaired(_polygon(rings, where=where), where=where) for rings in polygons]
    return parts[0] if len(parts) == 1 else repaired(shapely.union_all(parts), where=where)


def _polygon(rings: Any, *, where: str) -> shapely.Polygon:
    if not isinstance(rings, list) or not rings:
        raise BadInput(f"{where}: a polygon without rings; delete it or draw it again")
    shell, *holes = ([_point(point, where=where) for point in _listed(points, where)] for points in rings)
    open_holes = [hole for hole in holes if len(set(hole)) >= _MIN_CORNERS]
    return shapely.Polygon(ring(shell, where=where), [ring(hole, where=where) for hole in open_holes])


def _listed(points: Any, where: str) -> list[Any]:
    if not isinstance(points, list):
        raise BadInput(f"{where}: a ring that is no list of points; export it from QuPath as GeoJSON")
    return points


def _point(point: Any, *, where: str) -> tuple[float, float]:
    match point:  # a third number, the height, is left out
        case [int() | float() as x, int() | float() as y, *_]:
            pass
        case _:
            raise BadInput(f"{where}: point {str(point)[:40]!r}; expected [x, y]")
    try:
        return float(x), float(y)
    except OverflowError:
        raise BadInput(f"{where}: a coordinate that is no finite number; draw it again") from None


def _flat(geometry: BaseGeometry) -> Iterator[BaseGeometry]:
    for part in shapely.get_parts(geometry):
        if part.geom_type in {"Polygon", "Point", "LineString", "LinearRing"}:
            yield part
        else:
            yield from _flat(part)

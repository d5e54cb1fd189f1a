"""Areas in GeoJSON as QuPath writes it: FeatureCollection, list of features, one feature, a bare geometry."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import shapely
from shapely import affinity

from wsi_kd.core.errors import BadInput
from wsi_kd.tissue.drawing import CLASS_SEPARATOR, Annotation, Area, Color, DrawnArea, Item, PassedOver
from wsi_kd.tissue.rings import MIN_CORNERS, polygons_of, repaired, ring

AREAS = ("Polygon", "MultiPolygon")
NO_AREAS = ("Point", "MultiPoint", "LineString", "MultiLineString")
"""Geometries that are passed over: they cover nothing."""
MAX_CHANNEL = 255


class NamedArea(NamedTuple):
    """A polygon or multipolygon, valid and with an area, and its class name ('' where it has none)."""

    name: str
    area: DrawnArea


class _Element(NamedTuple):
    """A geometry without parts of another type, and the feature it belongs to."""

    where: str
    geometry: dict[str, Any]
    feature: dict[str, Any]


def read_geojson(path: Path, *, remedy: str = "export it from QuPath as GeoJSON") -> Any:
    """Parse a GeoJSON file; returns the JSON value.

    Args:
        path: the file.
        remedy: what to do about one that is no JSON.

    Raises:
        BadInput: when the file cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); expected GeoJSON") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not valid JSON ({error}); {remedy}") from None


def areas_of(value: Any, *, where: str) -> list[NamedArea]:
    """Read every area out of a GeoJSON value, coordinates as they stand; points and lines are passed over.

    Raises:
        BadInput: naming `where` and the element: unknown types, rings that are no list of number pairs,
            polygons without an area.
    """
    items = read_features(value, origin=(0, 0), where=where)
    areas = (item.annotation for item in items if isinstance(item, Area))
    return [NamedArea(annotation.name, annotation.area) for annotation in areas]


def read_features(value: Any, *, origin: tuple[int, int], where: str) -> Iterator[Item]:
    """Yield what a GeoJSON value holds; `origin` (level-0 corner of the slide's bounds) is added.

    Raises:
        BadInput: as `areas_of`.
    """
    for element in _elements(value, where=where):
        kind = element.geometry["type"]
        if kind in NO_AREAS:
            yield PassedOver(kind.lower())
            continue
        area, crossed = _area(element.geometry, where=element.where)
        moved = area if origin == (0, 0) else affinity.translate(area, *origin)
        properties = _properties(element.feature)
        annotation = Annotation(
            _class_name(element.feature), moved, _clean(str(properties.get("name") or "")), _color(properties)
        )
        yield Area(annotation, element.where, crossed, bool(properties.get("measurements")))


def write_features(annotations: Sequence[Annotation], *, origin: tuple[int, int]) -> str:
    """Return a FeatureCollection that QuPath opens, in its frame: `origin` is subtracted."""
    x, y = origin
    features = [
        {
            "type": "Feature",
            "geometry": _written(affinity.translate(item.area, -x, -y) if any(origin) else item.area),
            "properties": {
                "objectType": "annotation",
                **({"name": item.title} if item.title else {}),
                **({"classification": _classification(item)} if item.name else {}),
            },
        }
        for item in annotations
    ]
    collection = {"type": "FeatureCollection", "features": features}
    return json.dumps(collection, allow_nan=False) + "\n"


def _elements(value: Any, *, where: str) -> Iterator[_Element]:
    features: Any = value if isinstance(value, list) else [value]
    if isinstance(value, dict) and value.get("type") == "FeatureCollection":
        features = value.get("features")
    if not isinstance(features, list):
        raise BadInput(f"{where}: `features` is no list; export it from QuPath as GeoJSON")
    for index, feature in enumerate(features):
        is_feature = isinstance(feature, dict) and feature.get("type") == "Feature"
        owner = feature if is_feature else {}
        name = _class_name(owner)
        place = f"{where}: feature {index}" + (f" ('{name}')" if name else "")
        geometry = owner.get("geometry") if is_feature else feature
        yield from (_Element(place, part, owner) for part in _simple(geometry, where=place))


def _simple(geometry: Any, *, where: str) -> Iterator[dict[str, Any]]:
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind == "GeometryCollection":
        parts = geometry.get("geometries")
        if not isinstance(parts, list):
            raise BadInput(f"{where}: `geometries` is no list; export it from QuPath as GeoJSON")
        for part in parts:
            yield from _simple(part, where=where)
    elif kind in AREAS or kind in NO_AREAS:
        yield geometry
    else:
        expected = ", ".join(("FeatureCollection", "Feature", *AREAS))
        raise BadInput(f"{where}: type {kind!r}; expected one of {expected}")


def _properties(feature: dict[str, Any]) -> dict[str, Any]:
    properties = feature.get("properties")
    return properties if isinstance(properties, dict) else {}


def _class_name(feature: dict[str, Any]) -> str:
    """Read QuPath's classification: `name`, `names` of a derived class, or plain text."""
    classification = _properties(feature).get("classification")
    if isinstance(classification, str):
        return _clean(classification)
    name = classification.get("name") if isinstance(classification, dict) else None
    if name is None and isinstance(classification, dict) and isinstance(classification.get("names"), list):
        name = CLASS_SEPARATOR.join(str(part) for part in classification["names"])
    return _clean(str(name or ""))


def _clean(text: str) -> str:
    """Replace halves of UTF-16 pairs, which JSON can spell and no file or terminal can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _color(properties: dict[str, Any]) -> Color | None:
    """Read the color: three numbers, or in files of QuPath before 0.4 one number of 8 bits a channel."""
    classification = properties.get("classification")
    owner = classification if isinstance(classification, dict) else properties
    packed = owner.get("colorRGB")
    if isinstance(packed, int):
        return packed >> 16 & MAX_CHANNEL, packed >> 8 & MAX_CHANNEL, packed & MAX_CHANNEL
    match owner.get("color"):
        case [int() as red, int() as green, int() as blue] if all(
            0 <= channel <= MAX_CHANNEL for channel in (red, green, blue)
        ):
            return red, green, blue
    return None


def _classification(item: Annotation) -> dict[str, Any]:
    color = {} if item.color is None else {"color": list(item.color)}
    if CLASS_SEPARATOR in item.name:
        return {"names": item.name.split(CLASS_SEPARATOR), **color}
    return {"name": item.name, **color}


def _written(area: DrawnArea) -> dict[str, Any]:
    polygons = [
        [shapely.get_coordinates(line).tolist() for line in (part.exterior, *part.interiors)]
        for part in shapely.get_parts(area)
    ]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _area(geometry: dict[str, Any], *, where: str) -> tuple[DrawnArea, bool]:
    """Return the area and whether rings of it had to be repaired."""
    coordinates = geometry.get("coordinates")
    polygons = [coordinates] if geometry["type"] == "Polygon" else coordinates
    if not isinstance(polygons, list) or not polygons:
        raise BadInput(f"{where}: no coordinates; delete it or draw it again")
    drawn = [_polygon(rings, where=where) for rings in polygons]
    parts = [repaired(part, where=where) for part in drawn]
    crossed = not all(part.is_valid for part in drawn)
    if len(parts) == 1:
        return parts[0], crossed
    pieces = shapely.MultiPolygon([piece for part in parts for piece in polygons_of(part)])
    if pieces.is_valid:
        return pieces, crossed
    return repaired(shapely.union_all(parts), where=where), True


def _polygon(rings: Any, *, where: str) -> shapely.Polygon:
    if not isinstance(rings, list) or not rings:
        raise BadInput(f"{where}: a polygon without rings; delete it or draw it again")
    shell, *holes = ([_point(point, where=where) for point in _listed(points, where)] for points in rings)
    open_holes = [hole for hole in holes if len(set(hole)) >= MIN_CORNERS]
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

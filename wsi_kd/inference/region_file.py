"""Regions as GeoJSON: annotations that QuPath opens, each with its mapping, threshold and numbers."""

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import shapely
from shapely import affinity

from wsi_kd.core.provenance import RESEARCH_ONLY
from wsi_kd.inference.calls import positive_name
from wsi_kd.inference.export import POSITIVE_COLOR, publish_features
from wsi_kd.inference.mappings import CLASS_MARK, MappedTiles
from wsi_kd.inference.regions import Region

REGION_NAMESPACE = uuid.UUID("0d3a8c52-6f0b-5a57-8a0e-6d1b7c1f4e90")
ATTENTION_COLOR = (230, 150, 0)


class Outlined(NamedTuple):
    """What the regions of a file are regions of."""

    slide_id: str
    mapped: MappedTiles
    threshold: float
    origin: tuple[int, int]
    """Corner of the slide's bounds (level 0); QuPath counts from it, so it is subtracted."""
    classes: Sequence[str]
    """In order, the negative one first."""


def write_regions_geojson(path: Path, regions: Sequence[Region], outlined: Outlined) -> None:
    """Write a FeatureCollection, one annotation a region; equal regions give equal files and ids.

    `measurements` and `metadata` are what QuPath shows; the same numbers stand beside them under plain names
    for everybody else.
    """
    publish_features(path, (_feature(region, number, outlined) for number, region in enumerate(regions, 1)))


def _feature(region: Region, number: int, outlined: Outlined) -> dict[str, Any]:
    x, y = outlined.origin
    mapped, threshold = outlined.mapped, outlined.threshold
    moved = affinity.translate(region.polygon, -x, -y)
    rings = [shapely.get_coordinates(ring).tolist() for ring in (moved.exterior, *moved.interiors)]
    key = f"{outlined.slide_id}:{mapped.key}:{threshold!r}:{region.polygon.exterior.coords[0]}"
    numbers = {"mean": region.mean, "max": region.max, "area_mm2": region.area_mm2, "tiles": region.tiles}
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(REGION_NAMESPACE, key)),
        "geometry": {"type": "Polygon", "coordinates": rings},
        "properties": {
            "objectType": "annotation",
            "name": f"{mapped.name} >= {threshold:.4g} ({number})",
            "classification": _classification(outlined),
            "measurements": {
                f"{mapped.name}: mean": region.mean,
                f"{mapped.name}: max": region.max,
                "Threshold": threshold,
                "Area mm^2": region.area_mm2,
                "Tiles": region.tiles,
            },
            "metadata": {"mapping": mapped.key, "unit": mapped.unit, "research_only": RESEARCH_ONLY},
            "mapping": mapped.key,
            "threshold": threshold,
            **numbers,
        },
    }


def _classification(outlined: Outlined) -> dict[str, Any]:
    """Name the class whose probability it is; attention is no probability of any class."""
    base, _, class_name = outlined.mapped.key.partition(CLASS_MARK)
    if base.startswith("attention"):
        return {"name": "High attention", "color": list(ATTENTION_COLOR)}
    return {"name": class_name or positive_name(outlined.classes), "color": list(POSITIVE_COLOR)}

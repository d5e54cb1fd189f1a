"""Tissue outlines corrected by hand: any GeoJSON that QuPath exports."""

from pathlib import Path

import shapely
from shapely import affinity

from wsi_kd.core.errors import BadInput
from wsi_kd.tissue.geojson import areas_of, read_geojson
from wsi_kd.tissue.polygons import CLASS_NAME


def read_edited_tissue(path: Path, *, origin: tuple[int, int]) -> shapely.MultiPolygon:
    """Join the areas of class Tissue (any case) and those without a class; other classes are no tissue.

    Args:
        path: GeoJSON in QuPath's frame.
        origin: level-0 corner of the slide's bounds, which is added.

    Returns:
        Level-0 polygons; empty where the file holds no area at all.

    Raises:
        BadInput: not readable as GeoJSON, or with areas of other classes only.
    """
    areas = areas_of(read_geojson(path), where=str(path))
    tissue = [named.area for named in areas if named.name.casefold() in {"", CLASS_NAME.casefold()}]
    if areas and not tissue:
        found = ", ".join(sorted({named.name for named in areas}))
        raise BadInput(f"{path}: areas of class {found} only; give the tissue the class {CLASS_NAME} or none")
    joined = affinity.translate(shapely.union_all(tissue), *origin)
    return shapely.MultiPolygon([part for part in shapely.get_parts(joined) if part.geom_type == "Polygon"])

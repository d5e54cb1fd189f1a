"""Tissue given by the user, one file a slide: GeoJSON as QuPath exports it, or a mask as PNG or TIFF."""

from pathlib import Path
from typing import NamedTuple

import shapely
from shapely import affinity

from wsi_kd.core.errors import BadInput
from wsi_kd.core.units import Box
from wsi_kd.tissue.edited_files import RASTER_SUFFIXES
from wsi_kd.tissue.geojson import areas_of, read_geojson
from wsi_kd.tissue.polygons import CLASS_NAME, SIMPLIFY_PX
from wsi_kd.tissue.raster_mask import raster_outline, read_raster_mask


class EditedTissue(NamedTuple):
    """Polygons in level-0 pixels, and by how much their vertices may be off."""

    outline: shapely.MultiPolygon
    tolerance_level0_px: float


def read_edited(path: Path, *, level0_width_px: int, level0_height_px: int, bounds: Box) -> EditedTissue:
    """Read a slide's edited tissue; empty where the file holds none.

    Raises:
        BadInput: not readable, areas of other classes only, or a mask whose shape does not fit the slide.
    """
    if path.suffix.lower() not in RASTER_SUFFIXES:
        outline = read_edited_tissue(path, origin=(bounds.x_level0_px, bounds.y_level0_px))
        return EditedTissue(outline, 0.0)
    outline, pixel_level0_px = raster_outline(
        read_raster_mask(path),
        level0_width_px=level0_width_px,
        level0_height_px=level0_height_px,
        bounds=bounds,
        where=path,
    )
    return EditedTissue(outline, SIMPLIFY_PX * pixel_level0_px)


def check_edited(path: Path) -> None:
    """Read a file of edited tissue as far as that goes without its slide.

    Raises:
        BadInput: as `read_edited`.
    """
    if path.suffix.lower() in RASTER_SUFFIXES:
        read_raster_mask(path)
    else:
        read_edited_tissue(path, origin=(0, 0))


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

"""Tissue as polygons: from a mask, to and from GeoJSON that QuPath opens and edits."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import shapely
from jaxtyping import Int64
from shapely import affinity

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import content_hash, publish_text
from wsi_kd.core.provenance import check_schema
from wsi_kd.core.shapes import Mask
from wsi_kd.core.units import Box
from wsi_kd.tissue.bit_mask import BitMask
from wsi_kd.tissue.geojson import areas_of, read_geojson
from wsi_kd.tissue.strips import MASK_STRIP_PX, strips

KIND = "mask"
REMAKE = "wsi-kd mask"
CLASS_NAME = "Tissue"
HEADER_MEMBER = "wsi_kd"
CLASS_COLOR = (60, 160, 60)
MARK_COLOR = (214, 0, 154)
GRID_LEVEL0_PX = 0.125
"""Vertices lie on this grid: binary fractions survive the shift to QuPath's frame and JSON bit for bit."""
SIMPLIFY_PX = 0.75
"""Mask pixels by which a left-out vertex may be off: makes diagonals (steps 0.71 high) straight edges."""


class ChangedTissue(BadInput):
    """A mask that was edited where it lies: it is neither read nor overwritten."""


class Mark(NamedTuple):
    """What else was seen on the thumbnail, in level-0 pixels: shown beside the tissue, never tiled."""

    name: str
    """Pen or Fold."""
    area: shapely.MultiPolygon


class TissueFile(NamedTuple):
    """A slide's tissue in level-0 pixels (empty for a slide that failed) and the artifact's header."""

    slide_id: str
    tissue: shapely.MultiPolygon
    header: dict[str, Any]
    marks: tuple[Mark, ...] = ()


def mask_to_polygons(
    mask: Mask | BitMask, *, level0_px_per_px: float, origin: tuple[int, int]
) -> shapely.MultiPolygon:
    """Outline a mask exactly, along the edges of its pixels: the area is (true pixels) x level0_px_per_px^2.

    Args:
        mask: pixel (row, column) covers a square from origin + (column, row) x level0_px_per_px.
        level0_px_per_px: level-0 pixels a mask pixel.
        origin: level-0 position of the mask's corner.
    """
    boxes = shapely.box(*(edges * level0_px_per_px for edges in _rectangles(mask)))
    outline = shapely.union_all(boxes) if len(boxes) else shapely.MultiPolygon()
    return affinity.translate(_multi(outline), *origin)


def tidy_polygons(
    tissue: shapely.MultiPolygon, *, tolerance_level0_px: float, bounds: Box
) -> shapely.MultiPolygon:
    """Drop vertices within the tolerance, cut to the slide's bounds, snap to the grid of `GRID_LEVEL0_PX`."""
    x, y, width, height = bounds
    simple = shapely.simplify(tissue, tolerance_level0_px, preserve_topology=True)
    inside = shapely.intersection(shapely.make_valid(simple), shapely.box(x, y, x + width, y + height))
    return _multi(shapely.set_precision(inside, GRID_LEVEL0_PX))


def write_tissue(path: Path, tissue: TissueFile) -> None:
    """Write GeoJSON in QuPath's frame, one annotation a piece; the header is the foreign member `wsi_kd`.

    The header's `bounds` give the frame, and its `content_sha256` covers polygons and header.
    """
    publish_text(path, json.dumps(_signed(tissue), ensure_ascii=False, allow_nan=False) + "\n")


def read_tissue(path: Path) -> TissueFile:
    """Read a file of `write_tissue`, bit for bit, and check its hash.

    Raises:
        BadInput: absent, damaged, of another schema, or edited in place: edits belong into mask.edited_dir.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file; make it with: {REMAKE}")
    value = read_geojson(path, remedy=f"make it anew with: {REMAKE}")
    header = value.get(HEADER_MEMBER) if isinstance(value, dict) else None
    if not isinstance(header, dict):
        raise ChangedTissue(f"{path}: no member '{HEADER_MEMBER}', {_EDITS}")
    check_schema(header, KIND, where=path, remake=REMAKE)
    expected = header.pop("content_sha256", "")
    if _content_hash(value.get("features"), header) != expected:
        raise ChangedTissue(f"{path}: changed since it was written, {_EDITS}")
    x, y, _, _ = header["bounds"]
    by_class: dict[str, list[shapely.Polygon]] = {CLASS_NAME: []}
    for named in areas_of(value, where=str(path)):
        if isinstance(named.area, shapely.Polygon):
            by_class.setdefault(named.name, []).append(named.area)
    moved = {name: affinity.translate(shapely.MultiPolygon(parts), x, y) for name, parts in by_class.items()}
    tissue = moved.pop(CLASS_NAME)
    return TissueFile(header["slide_id"], tissue, header, tuple(Mark(*item) for item in moved.items()))


def tissue_hash(tissue: TissueFile) -> str:
    """Return the sha256 of polygons and header: the `content_sha256` of the file."""
    return str(_signed(tissue)[HEADER_MEMBER]["content_sha256"])


_EDITS = (
    "so it is not the file that was made; put an edited outline as <slide_id>.geojson into mask.edited_dir, "
    f"then run: {REMAKE}"
)


def _signed(tissue: TissueFile) -> dict[str, Any]:
    x, y, _, _ = tissue.header["bounds"]
    features = [
        _feature(part, index, name=mark.name)
        for mark in (Mark(CLASS_NAME, tissue.tissue), *tissue.marks)
        for index, part in enumerate(shapely.get_parts(affinity.translate(mark.area, -x, -y)))
    ]
    header = {**tissue.header, "content_sha256": _content_hash(features, tissue.header)}
    return {"type": "FeatureCollection", "features": features, HEADER_MEMBER: header}


def _feature(part: shapely.Polygon, index: int, *, name: str) -> dict[str, Any]:
    rings = [shapely.get_coordinates(ring).tolist() for ring in (part.exterior, *part.interiors)]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": rings},
        "properties": {
            "objectType": "annotation",
            "name": f"{name} {index + 1}",
            "classification": {
                "name": name,
                "color": list(CLASS_COLOR if name == CLASS_NAME else MARK_COLOR),
            },
        },
    }


def _content_hash(features: Any, header: Mapping[str, Any]) -> str:
    return content_hash({"features": features, "header": dict(header)})


def _multi(geometry: shapely.Geometry) -> shapely.MultiPolygon:
    """Keep the polygons of a geometry (an intersection may leave lines and points)."""
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return shapely.MultiPolygon([part for part in parts if part.geom_type == "Polygon" and part.area > 0])


def _rectangles(mask: Mask | BitMask) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cover a mask with rectangles: left, top, right, bottom in pixels.

    Runs of each row; those that repeat in the next rows become one rectangle, which saves most of the union.
    """
    found = [_row_runs(mask[rows], rows.start) for rows in strips(mask.shape, pixels=MASK_STRIP_PX)]
    row, left, right = np.concatenate([np.zeros((3, 0), np.int64), *found], axis=1)
    order = np.lexsort((row, right, left))
    row, left, right = row[order], left[order], right[order]
    same = (np.diff(left) == 0) & (np.diff(right) == 0) & (np.diff(row) == 1)
    starts = np.flatnonzero(np.concatenate(([True], ~same))) if len(row) else np.empty(0, np.int64)
    ends = np.append(starts[1:], len(row)) - 1 if len(row) else starts
    return left[starts], row[starts], right[starts], row[ends] + 1


def _row_runs(mask: Mask, first_row: int) -> Int64[np.ndarray, "3 runs"]:
    """Return row, first and last column + 1 of the runs of each row."""
    steps = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, left = np.nonzero(steps == 1)
    return np.stack([row + first_row, left, np.nonzero(steps == -1)[1]])

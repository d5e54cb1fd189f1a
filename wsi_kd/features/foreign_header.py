"""What another program's file tells of its slide, in the words of this project's feature files."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from wsi_kd.core.records import SlideStatus
from wsi_kd.core.shapes import Coords
from wsi_kd.features.foreign_folders import ForeignSlide
from wsi_kd.features.foreign_parts import ForeignParts
from wsi_kd.features.store import OBJECTIVE_MPP

GIVEN_ENCODER: Final = "given:"
"""How the encoder of features begins that this project did not make; what follows is its maker's name."""
UNKNOWN_ENCODER: Final = "unknown"
UM2_PER_MM2 = 1e6
MAX_NUMBER = 2.0**53
"""No pixel, micrometer or magnification reaches this; HDF5 could not hold it as a whole number."""
_ENCODER_KEYS = ("encoder", "extractor", "encoder_name")
_TILE_PX_KEYS = ("patch_size", "tile_size_px", "requested_tile_size_px")
_TILE_LEVEL0_KEYS = ("patch_size_level0", "tile_size_lv0")
_TILE_MPP_KEYS = ("requested_spacing_um",)


class ToldMpp(NamedTuple):
    """um/px of level 0, 0.0 where nobody tells, and who does."""

    mpp: float
    source: str


def told_mpp(attributes: Mapping[str, Any], slide_mpp: float | None) -> ToldMpp:
    """Resolve the resolution: the manifest's, slide2vec's record of the slide, TRIDENT's magnification.

    TRIDENT sorts slides into magnifications (0.30 and 0.59 um/px are both 20x), so what follows from its
    files is nominal: 10 / magnification, source `objective`.
    """
    if slide_mpp:
        return ToldMpp(slide_mpp, "override")
    recorded = _number(attributes, ("spacing_at_level_0", "base_spacing_um"))
    if recorded:
        return ToldMpp(recorded, "foreign")
    magnification = _number(attributes, ("level0_magnification",))
    return ToldMpp(OBJECTIVE_MPP / magnification, "objective") if magnification else ToldMpp(0.0, "")


def foreign_header(
    slide: ForeignSlide, parts: ForeignParts, *, coords: Coords, slide_mpp: float | None, encoder: str
) -> dict[str, Any]:
    """Return the header of a slide read from another program; its own attributes stay under `foreign`.

    Tile sizes that no attribute tells are 0, but for `tile_level0_px`, which then is the step of the grid.
    """
    attributes = parts.attributes
    mpp = told_mpp(attributes, slide_mpp)
    size = _tile_size(attributes, mpp.mpp)
    edge = (size.level0_px or grid_step(coords)) if parts.coords is not None else 0.0
    name = encoder or next((str(attributes[key]) for key in _ENCODER_KEYS if attributes.get(key)), "")
    width, height = (int(_number(attributes, (key,))) for key in ("level0_width", "level0_height"))
    empty = not len(parts.features)
    return {
        "slide_id": slide.slide_id,
        "status": str(SlideStatus.EMPTY if empty else SlideStatus.OK),
        "reason": "the given features hold no tile" if empty else "",
        "layout": slide.layout,
        "coords_given": parts.coords is not None,
        "tile_px": size.px,
        "tile_mpp": size.mpp,
        "tile_level0_px": edge,
        "overlap_px": _overlap_px(attributes, size.px),
        "mpp_tolerance": 0.0,
        "slide_mpp": mpp.mpp,
        "mpp_source": mpp.source,
        "mpp_x": mpp.mpp,
        "mpp_y": mpp.mpp,
        "level0_width": width,
        "level0_height": height,
        "bounds": [0, 0, width, height],
        "tissue_mm2": len(coords) * (grid_step(coords) * mpp.mpp) ** 2 / UM2_PER_MM2,
        "encoder": f"{GIVEN_ENCODER}{name or UNKNOWN_ENCODER}",
        "encoder_settings": {},
        "weights_hash": "",
        "feature_dim": parts.features.shape[1],
        "feature_dtype": str(parts.features.dtype),
        "feature_names": [],
        "damaged_tiles": 0,
        "damaged_reasons": [],
        "foreign": dict(attributes),
    }


def grid_step(coords: Coords) -> float:
    """Return the usual distance of a tile to the next one in its row (else column), in level-0 px; 0: none.

    >>> grid_step(np.array([[0, 0], [512, 0], [1024, 0], [3, 700]]))
    512.0
    """
    for along, across in ((0, 1), (1, 0)):
        order = np.lexsort((coords[:, along], coords[:, across]))
        sorted_coords = coords[order]
        same_line = np.diff(sorted_coords[:, across]) == 0
        steps = np.diff(sorted_coords[:, along])[same_line]
        steps = steps[steps > 0]
        if steps.size:
            values, counts = np.unique(steps, return_counts=True)
            return float(values[counts.argmax()])
    return 0.0


class _TileSize(NamedTuple):
    """Edge of a tile in its own and in level-0 pixels, and its um/px; 0 where nobody tells."""

    px: int
    level0_px: float
    mpp: float


def _tile_size(attributes: Mapping[str, Any], slide_mpp: float) -> _TileSize:
    px = int(_number(attributes, _TILE_PX_KEYS))
    level0_px = _number(attributes, _TILE_LEVEL0_KEYS)
    um = _number(attributes, ("tile_size_um",))
    if um:
        return _TileSize(px, um / slide_mpp if slide_mpp else level0_px, um / px if px else 0.0)
    magnification = _number(attributes, ("target_magnification",))
    nominal = OBJECTIVE_MPP / magnification if magnification else 0.0
    mpp = _number(attributes, _TILE_MPP_KEYS) or nominal
    return _TileSize(px, level0_px, mpp)


def _overlap_px(attributes: Mapping[str, Any], tile_px: int) -> int:
    """TRIDENT and STAMP count pixels; hs2p gives the share of a tile."""
    overlap = _number(attributes, ("overlap",))
    return round(overlap * tile_px) if 0 < overlap < 1 else int(overlap)


def _number(attributes: Mapping[str, Any], keys: tuple[str, ...]) -> float:
    """Return the first of these attributes that is a positive number below `MAX_NUMBER`, else 0."""
    for key in keys:
        try:
            value = float(attributes.get(key, 0.0))
        except (TypeError, ValueError):
            continue
        if 0 < value < MAX_NUMBER:
            return value
    return 0.0

"""One slide's tile scores, checked, and the heatmap files that need no pixels: regions and facts."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash, publish_json
from wsi_kd.core.provenance import RESEARCH_ONLY, stamp
from wsi_kd.core.units import Box
from wsi_kd.inference.mappings import MappedTiles
from wsi_kd.inference.region_file import Outlined, write_regions_geojson
from wsi_kd.inference.regions import merged_regions
from wsi_kd.inference.tables import BINARY, TileTable, read_tiles_csv
from wsi_kd.report.overlay import COLORMAPS
from wsi_kd.steps.heatmap_sources import Drawn
from wsi_kd.viewer.record import Viewed

KIND: Final = "heatmap"
OWN_THRESHOLD: Final = "student_probability"
"""The mapping that the model's threshold on single tiles is of."""


class Choice(NamedTuple):
    """What is drawn, and how."""

    mappings: tuple[str, ...] = ()
    """Keys; none: the student's probability, without a student the teacher's evidence."""
    threshold: float | None = None
    """Of regions; None: the model's own for the student's probability of two classes, else no regions."""
    um_per_px: float | None = None
    """Of the picture; None: its longer edge has 1200 pixels."""
    tiff_um_per_px: float | None = None
    """Of the pyramid's finest level; None: no pyramid."""
    colormap: str = COLORMAPS[0]


class Scored(NamedTuple):
    """One slide's tiles and frame, checked."""

    drawn: Drawn
    viewed: Viewed
    tiles: TileTable
    slide_mpp: float
    bounds: Box
    outside: int
    """Tiles wholly outside the slide's bounds: in every table and in no picture."""


class Pictured(NamedTuple):
    """Resolutions that a slide's pictures have, um/px; None where there is none."""

    picture: float | None = None
    pyramid: float | None = None


def read_scored(drawn: Drawn, viewed: Viewed) -> Scored:
    """Read a slide's tile scores.

    Raises:
        BadInput: damaged files, features that came without positions or resolution, or tiles that all lie
            outside the slide.
    """
    if drawn.problem:
        raise BadInput(drawn.problem)
    tiles = read_tiles_csv(drawn.tiles)
    slide_mpp = float(drawn.header.get("slide_mpp") or 0.0)
    if not tiles.tile_level0_px or not drawn.header.get("coords_given", True):
        raise BadInput("its features came without positions or tile sizes: nothing can be drawn")
    if not 0 < slide_mpp < math.inf:
        raise BadInput("its resolution is unknown; see the column slide_mpp of the manifest")
    x, y, width, height = bounds = Box(*(int(value) for value in drawn.header["bounds"]))
    left, top = tiles.coords.T
    edge = tiles.tile_level0_px
    inside = (left + edge > x) & (left < x + width) & (top + edge > y) & (top < y + height)
    if not inside.any():
        raise BadInput(
            f"none of its {len(inside)} tiles lies within the slide's bounds; positions count in level-0 "
            "pixels from level 0's corner: make the features of this slide anew"
        )
    return Scored(drawn, viewed, tiles, slide_mpp, bounds, outside=int((~inside).sum()))


def region_threshold(scored: Scored, mapped: MappedTiles, choice: Choice) -> dict[str, Any]:
    """Return value, rule and chosen_on of the threshold for one mapping; value None where there is none.

    The model's own is the one that max pooling calls a slide by: where no tiles overlap, a slide has a
    region exactly if the student calls it positive by its largest tile.
    """
    if choice.threshold is not None:
        return {"value": choice.threshold, "rule": "given", "chosen_on": ""}
    if mapped.key != OWN_THRESHOLD or len(scored.viewed.classes) > BINARY:
        return {"value": None, "rule": "", "chosen_on": ""}
    return dict(scored.drawn.threshold)


def write_regions(path: Path, scored: Scored, mapped: MappedTiles, *, threshold: float) -> None:
    """Write the regions at or above the threshold."""
    tiles = scored.tiles
    regions = merged_regions(
        tiles.coords,
        mapped.scores,
        tile_level0_px=tiles.tile_level0_px,
        threshold=threshold,
        slide_mpp=scored.slide_mpp,
    )
    origin = (scored.bounds.x_level0_px, scored.bounds.y_level0_px)
    outlined = Outlined(scored.drawn.slide_id, mapped, threshold, origin, scored.viewed.classes)
    write_regions_geojson(path, regions, outlined)


def write_facts(
    path: Path,
    scored: Scored,
    mapped: MappedTiles,
    *,
    threshold: Mapping[str, Any],
    pictured: Pictured,
    choice: Choice,
    names: Sequence[str],
    problem: str,
) -> None:
    """Write what the files of one mapping show, and the hash of each."""
    drawn = scored.drawn
    publish_json(
        path,
        {
            **stamp(KIND, {"heatmap": choice._asdict()}),
            "slide_id": drawn.slide_id,
            "model": drawn.model,
            "scores_sha256": file_hash(drawn.tiles),
            "mapping": mapped.key,
            "name": mapped.name,
            "unit": mapped.unit,
            "meaning": mapped.meaning,
            "vmin": mapped.vmin,
            "vmax": mapped.vmax,
            "threshold": dict(threshold),
            "tiles": len(mapped.scores),
            "tiles_without_score": int(len(mapped.scores) - np.isfinite(mapped.scores).sum()),
            "tiles_outside_bounds": scored.outside,
            "slide_mpp": scored.slide_mpp,
            "bounds": list(scored.bounds),
            "um_per_px": pictured.picture,
            "tiff_um_per_px": pictured.pyramid,
            "files": {name: file_hash(path.with_name(name)) for name in names},
            "problem": problem,
            "research_only": RESEARCH_ONLY,
        },
    )

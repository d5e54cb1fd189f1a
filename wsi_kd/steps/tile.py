"""Step tile: tissue polygons -> tile positions and labels, one HDF5 a slide, and the job's status table."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput, SlideProblem
from wsi_kd.core.files import file_hash
from wsi_kd.core.progress import slide_progress
from wsi_kd.core.provenance import stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.core.shapes import Coords, TileLabels
from wsi_kd.features.store import TileFile, read_tiles, write_tiles
from wsi_kd.settings.all import Settings
from wsi_kd.settings.slides import TileSettings
from wsi_kd.slides.pyramid import plan_read
from wsi_kd.steps.drawings import frame_of, slide_annotations
from wsi_kd.steps.status import failure, inputs_hash, status_row, write_status
from wsi_kd.tiling.grid import TileGrid, tile_grid
from wsi_kd.tiling.labels import label_tiles
from wsi_kd.tiling.spec import TileSpec
from wsi_kd.tissue.polygons import TissueFile, read_tissue, tissue_hash

STEP = "tile"
KIND = "tiles"
UNKNOWN, NEGATIVE = -1, 0


def run_tile(
    rows: Sequence[SlideRow],
    *,
    masks_dir: Path,
    tiles_dir: Path,
    status_path: Path,
    settings: Settings,
    negative_label: str | None = None,
) -> list[StatusRow]:
    """Write `tiles_dir/<slide_id>.h5` for every slide, then the status table; files that still fit stay.

    Args:
        rows: the job's slides.
        masks_dir: folder of the masks.
        tiles_dir: folder of the tile files.
        status_path: the job's status table.
        settings: section `tile` is used.
        negative_label: the manifest's negative class; default: the first of `run.classes`, if given.

    Raises:
        BadInput: a mask is absent or changed, or an annotation cannot be used.
        RunFailed: a file could not be written.
    """
    if negative_label is None and settings.run.classes:
        negative_label = settings.run.classes[0]
    statuses = []
    with slide_progress(STEP, total=len(rows)) as finish:
        for row in rows:
            started = time.perf_counter()
            tissue = read_tissue(masks_dir / f"{row.slide_id}.geojson")
            path = tiles_dir / f"{row.slide_id}.h5"
            tiles = _kept(path, _inputs_hash(tissue, row, settings.tile, negative_label=negative_label))
            if tiles is None:
                tiles = tile_slide(tissue, row, settings, negative_label=negative_label)
                write_tiles(path, tiles)
            seconds = time.perf_counter() - started
            statuses.append(status_row(tiles.header, step=STEP, tiles=len(tiles.coords), seconds=seconds))
            finish(statuses[-1])
    write_status(status_path, statuses, stamp(STEP, {"tile": settings.tile.model_dump(mode="json")}))
    return statuses


def tile_slide(
    tissue: TissueFile, row: SlideRow, settings: Settings, *, negative_label: str | None = None
) -> TileFile:
    """Lay tiles on a slide's tissue and label them; a slide that cannot be used has none and says why.

    Labels: 1 or 0 by the row's annotation; without one 0 for a slide of the negative class, else -1
        (unknown).

    Args:
        tissue: the slide's mask; a failed one passes its status on.
        row: the slide's line of the manifest.
        settings: section `tile` is used.
        negative_label: label of the negative class, if known.

    Raises:
        BadInput: an annotation that cannot be read, or that names no positive area on a positive slide.
    """
    tile = settings.tile
    header = _header(tissue, row, tile, negative_label=negative_label)
    grid, labels = _no_tiles(), np.empty(0, np.int8)
    if header["status"] == SlideStatus.OK:
        try:
            grid = _grid(tissue, tile)
            labels = slide_tile_labels(grid.coords, row, tile, header=header, negative_label=negative_label)
        except SlideProblem as problem:
            header.update(failure(problem.status, problem.reason, step=STEP))
    return TileFile(tissue.slide_id, grid.coords, grid.tissue_fraction, labels, header)


def _header(
    tissue: TissueFile, row: SlideRow, tile: TileSettings, *, negative_label: str | None
) -> dict[str, Any]:
    slide_mpp = tissue.header["slide_mpp"]
    sections = {**tissue.header["settings"], "tile": tile.model_dump(mode="json")}
    return {
        **tissue.header,
        **stamp(KIND, sections),
        "tile_px": tile.tile_px,
        "tile_mpp": tile.tile_mpp,
        "overlap_px": tile.overlap_px,
        "tile_level0_px": _spec(slide_mpp, tile).tile_level0_px if slide_mpp else 0.0,
        "mpp_tolerance": tile.mpp_tolerance,
        "inputs_hash": _inputs_hash(tissue, row, tile, negative_label=negative_label),
    }


def _grid(tissue: TissueFile, tile: TileSettings) -> TileGrid:
    header = tissue.header
    spec = _spec(header["slide_mpp"], tile)
    # Raises too_coarse; level 0 decides that, so the slide need not be opened again.
    plan_read(
        (1.0,),
        slide_mpp=spec.slide_mpp,
        tile_mpp=tile.tile_mpp,
        tile_px=tile.tile_px,
        mpp_tolerance=tile.mpp_tolerance,
    )
    grid = tile_grid(
        tissue.tissue,
        spec,
        level0_width_px=header["level0_width"],
        level0_height_px=header["level0_height"],
        min_tissue_fraction=tile.min_tissue_fraction,
    )
    if len(grid.coords) < tile.min_tiles:
        reason = (
            f"{len(grid.coords)} tiles of {spec.tile_level0_px:.4g} level-0 px with at least "
            f"{tile.min_tissue_fraction:.0%} tissue, {tile.min_tiles} needed; the slide has "
            f"{header['level0_width']}x{header['level0_height']} px, {header['tissue_mm2']:.3g} mm2 of tissue"
        )
        raise SlideProblem(SlideStatus.TOO_FEW_TILES, reason)
    return grid


def slide_tile_labels(
    coords: Coords,
    row: SlideRow,
    tile: TileSettings,
    *,
    header: dict[str, Any],
    negative_label: str | None,
) -> TileLabels:
    """Label tiles by the row's annotation; without one 0 on a slide of the negative class, else -1."""
    if row.annotation is None:
        is_negative = negative_label is not None and row.label == negative_label
        return np.full(len(coords), NEGATIVE if is_negative else UNKNOWN, np.int8)
    annotations = slide_annotations(row, tile, frame=frame_of(header), negative_label=negative_label)
    return label_tiles(
        coords,
        tile_level0_px=header["tile_level0_px"],
        annotations=annotations,
        positive_names=tile.positive_names,
        exclude_names=tile.exclude_names,
        label_rule=tile.label_rule,
        min_positive_fraction=tile.min_positive_fraction,
    )


def _spec(slide_mpp: float, tile: TileSettings) -> TileSpec:
    return TileSpec(tile.tile_px, tile.tile_mpp, overlap_px=tile.overlap_px, slide_mpp=slide_mpp)


def _no_tiles() -> TileGrid:
    return TileGrid(np.empty((0, 2), np.int64), np.empty(0, np.float32))


def _inputs_hash(tissue: TissueFile, row: SlideRow, tile: TileSettings, *, negative_label: str | None) -> str:
    parts = {
        "tile": tile.model_dump(mode="json"),
        "tissue": tissue_hash(tissue),
        "annotation_sha256": file_hash(row.annotation) if row.annotation else "",
        "label": row.label,
        "negative_label": negative_label,
    }
    return inputs_hash(STEP, parts)


def _kept(path: Path, expected_hash: str) -> TileFile | None:
    if not path.is_file():
        return None
    try:
        tiles = read_tiles(path)
    except BadInput:
        return None
    return tiles if tiles.header.get("inputs_hash") == expected_hash else None

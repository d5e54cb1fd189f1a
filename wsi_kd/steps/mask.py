"""Step mask: slides -> tissue polygons, one GeoJSON a slide, and the status table of the job."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import shapely

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput, SlideProblem, WsiKdError
from wsi_kd.core.files import file_hash
from wsi_kd.core.provenance import stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.core.units import Box
from wsi_kd.settings.all import Settings
from wsi_kd.slides.fingerprint import slide_fingerprint
from wsi_kd.slides.mpp import resolve_mpp
from wsi_kd.slides.pyramid import Thumbnail, read_thumbnail
from wsi_kd.slides.reader import open_slide
from wsi_kd.steps.drawings import edited_outline
from wsi_kd.steps.status import failure, inputs_hash, status_row, write_status
from wsi_kd.tissue.edited import read_edited_tissue
from wsi_kd.tissue.polygons import (
    KIND,
    SIMPLIFY_PX,
    ChangedTissue,
    TissueFile,
    mask_to_polygons,
    read_tissue,
    tidy_polygons,
    write_tissue,
)
from wsi_kd.tissue.segmentation import segment_tissue

STEP = "mask"
UM2_PER_MM2 = 1e6


class _Inputs(NamedTuple):
    """What a slide's mask follows from besides the settings."""

    fingerprint: str
    edited: Path | None
    edited_sha256: str
    hash: str


def run_mask(
    rows: Sequence[SlideRow], *, masks_dir: Path, status_path: Path, settings: Settings
) -> list[StatusRow]:
    """Write `masks_dir/<slide_id>.geojson` for every slide, then the status table; files that still fit stay.

    Args:
        rows: the job's slides.
        masks_dir: folder of the masks.
        status_path: the job's status table.
        settings: sections `slides` and `mask` are used.

    Raises:
        BadInput: an edited outline that cannot be read, or a mask that was edited where it lies.
        RunFailed: a file could not be written.
    """
    statuses = []
    for row in rows:
        started = time.perf_counter()
        inputs = _inputs(row, settings)
        path = masks_dir / f"{row.slide_id}.geojson"
        tissue = _kept(path, inputs)
        if tissue is None:
            tissue = _mask_slide(row, settings, inputs)
            write_tissue(path, tissue)
        seconds = time.perf_counter() - started
        statuses.append(status_row(tissue.header, step=STEP, tiles=0, seconds=seconds))
    write_status(status_path, statuses, stamp(STEP, _sections(settings)))
    return statuses


def mask_slide(row: SlideRow, settings: Settings) -> TissueFile:
    """Find the tissue of one slide; a slide that cannot be used has none, and the header says why.

    Raises:
        BadInput: the slide has an edited outline, and that cannot be read.
    """
    return _mask_slide(row, settings, _inputs(row, settings))


def _mask_slide(row: SlideRow, settings: Settings, inputs: _Inputs) -> TissueFile:
    header: dict[str, Any] = {
        **stamp(KIND, _sections(settings)),
        "slide_id": row.slide_id,
        "slide_file": row.path.name,
        "status": str(SlideStatus.OK),
        "reason": "",
        "failed_in": "",
        "slide_mpp": 0.0,
        "mpp_x": 0.0,
        "mpp_y": 0.0,
        "mpp_source": "",
        "level0_width": 0,
        "level0_height": 0,
        "bounds": [0, 0, 0, 0],
        "fingerprint": inputs.fingerprint,
        "mask_source": "edited" if inputs.edited else "segmentation",
        "edited_sha256": inputs.edited_sha256,
        "tissue_mm2": 0.0,
        "inputs_hash": inputs.hash,
    }
    tissue = shapely.MultiPolygon()
    try:
        tissue = _find_tissue(row, settings, edited=inputs.edited, header=header)
    except SlideProblem as problem:
        header.update(failure(problem.status, problem.reason, step=STEP))
    header["tissue_mm2"] = tissue.area * header["mpp_x"] * header["mpp_y"] / UM2_PER_MM2
    return TissueFile(row.slide_id, tissue, header)


def _find_tissue(
    row: SlideRow, settings: Settings, *, edited: Path | None, header: dict[str, Any]
) -> shapely.MultiPolygon:
    """Read the slide and outline its tissue; `header` is filled with what was learned on the way."""
    thumbnail = _read_slide(row, settings, with_thumbnail=edited is None, header=header)
    bounds = Box(*header["bounds"])
    if thumbnail is None:
        outline = read_edited_tissue(edited or Path(), origin=(bounds.x_level0_px, bounds.y_level0_px))
        tissue = tidy_polygons(outline, tolerance_level0_px=0.0, bounds=bounds)
        if tissue.is_empty:
            reason = f"the edited outline {row.slide_id}.geojson covers nothing of the slide; correct it"
            raise SlideProblem(SlideStatus.EMPTY, reason)
        return tissue
    ratio = thumbnail.level0_px_per_px
    mask = segment_tissue(
        thumbnail.pixels,
        mpp=header["slide_mpp"] * ratio,
        min_tissue_um2=settings.mask.min_tissue_um2,
        min_hole_um2=settings.mask.min_hole_um2,
        close_um=settings.mask.close_um,
        min_saturation=settings.mask.min_saturation,
        min_texture=settings.mask.min_texture,
        dark_field_luminance=settings.mask.dark_field_luminance,
    )
    outline = mask_to_polygons(mask, level0_px_per_px=ratio, origin=thumbnail.origin)
    return tidy_polygons(outline, tolerance_level0_px=SIMPLIFY_PX * ratio, bounds=bounds)


def _read_slide(
    row: SlideRow, settings: Settings, *, with_thumbnail: bool, header: dict[str, Any]
) -> Thumbnail | None:
    """Read geometry, resolution and overview; whatever a reader raises ends as unreadable."""
    try:
        with open_slide(row.path, background=settings.slides.background) as reader:
            header["level0_width"], header["level0_height"] = reader.level_dimensions[0]
            header["bounds"] = list(reader.bounds)
            mpp = resolve_mpp(
                reader.properties,
                override=row.slide_mpp,
                min_mpp=settings.slides.min_mpp,
                max_mpp=settings.slides.max_mpp,
                from_objective=settings.slides.mpp_from_objective,
            )
            header.update(slide_mpp=mpp.mpp, mpp_x=mpp.mpp_x, mpp_y=mpp.mpp_y, mpp_source=mpp.source)
            if not with_thumbnail:
                return None
            return read_thumbnail(reader, slide_mpp=mpp.mpp, thumbnail_mpp=settings.mask.mask_mpp)
    except (WsiKdError, MemoryError):
        raise
    except Exception as error:
        reason = f"reading failed ({type(error).__name__}: {error}); export the slide again"
        raise SlideProblem(SlideStatus.UNREADABLE, reason[:300]) from None


def _inputs(row: SlideRow, settings: Settings) -> _Inputs:
    try:
        fingerprint = slide_fingerprint(row.path)
    except OSError:
        fingerprint = ""  # the reader tells what is wrong with the file
    edited = edited_outline(row, settings.mask.edited_dir)
    edited_sha256 = file_hash(edited) if edited else ""
    sections = _sections(settings)
    sections["mask"].pop("edited_dir")
    parts = {"fingerprint": fingerprint, "edited_sha256": edited_sha256, "slide_mpp": row.slide_mpp}
    identity = {"slide_id": row.slide_id, "slide_file": row.path.name}
    return _Inputs(fingerprint, edited, edited_sha256, inputs_hash(STEP, {**sections, **parts, **identity}))


def _kept(path: Path, inputs: _Inputs) -> TissueFile | None:
    """Return the mask of a former run if it still fits; one that was edited in place is never overwritten."""
    if not path.is_file():
        return None
    try:
        tissue = read_tissue(path)
    except ChangedTissue:
        raise
    except BadInput:
        return None
    return tissue if tissue.header.get("inputs_hash") == inputs.hash else None


def _sections(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name).model_dump(mode="json") for name in ("slides", "mask")}

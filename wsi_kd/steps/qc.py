"""Step qc: masks, tiles and features of a cohort -> qc/index.html, qc/qc.csv and a thumbnail a slide."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish_table, publish_text
from wsi_kd.core.machine import usable_cpus
from wsi_kd.core.provenance import RESEARCH_ONLY, stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.features.store import read_header
from wsi_kd.report.qc_page import render_qc
from wsi_kd.report.qc_record import MARKS, QC_COLUMNS, QcSlide, qc_row, slide_facts_of, tile_counts_of
from wsi_kd.settings.all import Settings
from wsi_kd.steps.qc_thumbnails import Made, Wanted, make_thumbnails
from wsi_kd.steps.status import read_status, unnamed
from wsi_kd.tissue.polygons import read_tissue

STEP = "qc"
UM2_PER_MM2 = 1e6

Stage = Literal["mask", "tile", "embed"]


class QcChunk(NamedTuple):
    """Manifest rows of one job, and how far it came."""

    rows: Sequence[SlideRow]
    stage: Stage
    status: Path
    """Status table of that stage."""


class QcFolders(NamedTuple):
    """Where the per-slide files of each step lie."""

    masks: Path
    tiles: Path
    features: Path


def run_qc(
    chunks: Sequence[QcChunk],
    *,
    folders: QcFolders,
    out_dir: Path,
    settings: Settings,
    missing: int = 0,
    workers: int | None = None,
) -> Path:
    """Write the quality page, its table and its thumbnails; return the page's path.

    Headers and status tables alone are read of what former steps made, never their arrays; thumbnails that
    still fit are kept.

    Args:
        chunks: jobs whose slides are shown.
        folders: the per-slide files.
        out_dir: folder of the page.
        settings: sections `run` (title), `slides` and `qc` are used.
        missing: slides of the manifest that no step has seen yet; the page says so.
        workers: reading threads; default: the CPU cores this process may use.

    Raises:
        BadInput: a status table, a mask or the header of a slide's file that is absent, damaged or of
            another version.
        RunFailed: a file could not be written.
    """
    found = [slide for chunk in chunks for slide in _slides(chunk, folders)]
    made = make_thumbnails(
        [item.wanted for item in found],
        folder=out_dir,
        settings=settings,
        workers=usable_cpus() if workers is None else workers,
    )
    slides = [_slide(item, done) for item, done in zip(found, made, strict=True)]
    recorded = {"qc": settings.qc.model_dump(mode="json")}
    publish_table(out_dir / "qc.csv", QC_COLUMNS, map(qc_row, slides), stamp=stamp(STEP, recorded))
    page = out_dir / "index.html"
    publish_text(
        page, render_qc(slides, title=settings.run.title, research_only=RESEARCH_ONLY, missing=missing)
    )
    return page


class _Found(NamedTuple):
    """What the files tell of a slide, before its thumbnail."""

    status: StatusRow
    header: Mapping[str, Any]
    wanted: Wanted


def _slides(chunk: QcChunk, folders: QcFolders) -> list[_Found]:
    statuses = {row.slide_id: row for row in read_status(chunk.status)}
    found = []
    for row in chunk.rows:
        status = statuses.get(row.slide_id)
        if status is None:
            raise BadInput(
                f"{chunk.status}: does not hold slide '{row.slide_id}' of the manifest; make it anew with: "
                f"wsi-kd {chunk.stage}"
            )
        mask = folders.masks / f"{row.slide_id}.geojson"
        if not mask.is_file():
            raise BadInput(f"{mask}: no such file; make it with: wsi-kd mask")
        header = _header(row.slide_id, chunk.stage, folders=folders, mask=mask)
        found.append(_Found(status, header, Wanted(row, mask, str(header["fingerprint"]))))
    return found


def _header(slide_id: str, stage: Stage, *, folders: QcFolders, mask: Path) -> dict[str, Any]:
    """Read the header of the last file that a slide has; each holds those before it."""
    if stage == "embed":
        return read_header(folders.features / f"{slide_id}.h5")
    if stage == "tile":
        return read_header(folders.tiles / f"{slide_id}.h5")
    return read_tissue(mask).header


def _slide(found: _Found, made: Made) -> QcSlide:
    header, status = found.header, found.status
    unopened = {SlideStatus.UNREADABLE, SlideStatus.READER_CRASHED}
    is_open = status.status not in unopened or made.thumbnail is not None
    return QcSlide(
        status=status._replace(reason=unnamed(status.reason, found.wanted.row)),
        width_level0_px=int(header["level0_width"]),
        height_level0_px=int(header["level0_height"]),
        facts=slide_facts_of(header),
        mask_source=str(header["mask_source"]),
        excluded_mm2=_excluded_mm2(header),
        counts=tile_counts_of(header),
        thumbnail=made.thumbnail,
        note=made.note if is_open else "",
    )


def _excluded_mm2(header: Mapping[str, Any]) -> dict[str, float]:
    told = {name: header.get(f"{name}_mm2") for name in MARKS}
    return {name: float(area_mm2) for name, area_mm2 in told.items() if area_mm2 is not None}

"""Step mask: slides -> tissue polygons, one GeoJSON a slide, and the status table of the job."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import shapely

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.bags.slide_files import told_name
from wsi_kd.core.errors import BadInput, SlideProblem, WsiKdError
from wsi_kd.core.files import file_hash
from wsi_kd.core.places import without_paths
from wsi_kd.core.progress import slide_progress
from wsi_kd.core.provenance import stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.settings.all import Settings
from wsi_kd.settings.slides import MaskSettings
from wsi_kd.slides.facts import slide_facts
from wsi_kd.slides.fingerprint import slide_fingerprint
from wsi_kd.slides.frame import slide_center_nm
from wsi_kd.slides.overview import Overview, open_overview, reading_failed
from wsi_kd.slides.protocol import SlideReader
from wsi_kd.slides.reader import open_slide
from wsi_kd.slides.whole_series import series_doubt
from wsi_kd.steps.drawings import edited_outline
from wsi_kd.steps.resolution import slide_resolution
from wsi_kd.steps.status import (
    failure,
    inputs_hash,
    joined_notes,
    kept_under,
    status_row,
    unnamed,
    write_status,
)
from wsi_kd.steps.tissue import (
    look_at_overview,
    nothing_seen,
    tissue_of_file,
    tissue_of_network,
    tissue_of_overview,
)
from wsi_kd.tissue.network import NetworkInput, NetworkMask, segment_by_network
from wsi_kd.tissue.polygons import KIND, ChangedTissue, Mark, TissueFile, read_tissue, write_tissue
from wsi_kd.tissue.segmentation_network import SegmentationNetwork, load_network

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
        BadInput: an edited outline or network that cannot be used, or a mask that was edited where it lies.
        RunFailed: a file could not be written.
    """
    network = mask_network(settings)
    statuses = []
    with slide_progress(STEP, total=len(rows)) as finish:
        for row in rows:
            started = time.perf_counter()
            inputs = _inputs(row, settings, network)
            path = masks_dir / f"{row.slide_id}.geojson"
            tissue = _kept(path, inputs)
            if tissue is None:
                tissue = _mask_slide(row, settings, inputs, network=network)
                write_tissue(path, tissue)
            seconds = time.perf_counter() - started
            statuses.append(status_row(tissue.header, step=STEP, tiles=0, seconds=seconds))
            finish(statuses[-1])
    write_status(status_path, statuses, stamp(STEP, without_paths(_sections(settings))))
    return statuses


def mask_slide(
    row: SlideRow, settings: Settings, *, network: SegmentationNetwork | None = None
) -> TissueFile:
    """Find the tissue of one slide; a slide that cannot be used has none, and the header says why.

    Args:
        row: the slide's line of the manifest.
        settings: sections `slides` and `mask` are used.
        network: what `mask_network` returns for these settings; default: it is loaded here.

    Raises:
        BadInput: the slide has an edited outline, and that cannot be read; or the network does not fit.
    """
    network = network or mask_network(settings)
    return _mask_slide(row, settings, _inputs(row, settings, network), network=network)


def mask_network(settings: Settings) -> SegmentationNetwork | None:
    """Load the segmentation network that the settings name, if they do.

    Raises:
        BadInput: it cannot be loaded.
    """
    mask = settings.mask
    if mask.source != "network" or mask.network is None:
        return None
    return load_network(mask.network, device=mask.network_device)


def _mask_slide(
    row: SlideRow, settings: Settings, inputs: _Inputs, *, network: SegmentationNetwork | None
) -> TissueFile:
    header: dict[str, Any] = {
        **stamp(KIND, without_paths(_sections(settings))),
        "slide_id": row.slide_id,
        "slide_file": told_name(row.slide_id, row.path),
        "status": str(SlideStatus.OK),
        "reason": "",
        "failed_in": "",
        "slide_mpp": 0.0,
        "mpp_x": 0.0,
        "mpp_y": 0.0,
        "mpp_source": "",
        "mpp_entry": "",
        "mpp_others": [],
        "level0_width": 0,
        "level0_height": 0,
        "bounds": [0, 0, 0, 0],
        "center_nm": None,
        "facts": {},
        "fingerprint": inputs.fingerprint,
        "mask_source": "edited" if inputs.edited else settings.mask.source,
        "edited_file": inputs.edited.name if inputs.edited else "",
        "edited_sha256": inputs.edited_sha256,
        "network_sha256": network.sha256 if network else "",
        **nothing_seen(settings.mask),
        "tissue_mm2": 0.0,
        "inputs_hash": inputs.hash,
    }
    tissue = shapely.MultiPolygon()
    marks: list[Mark] = []
    try:
        tissue = _find_tissue(row, settings, inputs=inputs, network=network, header=header, marks=marks)
    except SlideProblem as problem:
        header.update(failure(problem.status, unnamed(problem.reason, row), step=STEP))
        header["inputs_hash"] = kept_under(header, inputs.hash, step=STEP)
    header["tissue_mm2"] = tissue.area * header["mpp_x"] * header["mpp_y"] / UM2_PER_MM2
    return TissueFile(row.slide_id, tissue, header, tuple(marks))


def _find_tissue(
    row: SlideRow,
    settings: Settings,
    *,
    inputs: _Inputs,
    network: SegmentationNetwork | None,
    header: dict[str, Any],
    marks: list[Mark],
) -> shapely.MultiPolygon:
    """Read the slide and outline its tissue; `header` and `marks` are filled with what was seen on the way.

    Both are kept of a slide without tissue: pen alone is a reason worth seeing.
    """
    mask, edited = settings.mask, inputs.edited
    with _opened(row, settings) as reader:
        with _unreadable_if_raised():
            _read_geometry(reader, row, settings, header=header)
        if edited is not None:
            with suppress(SlideProblem):  # edited tissue needs no overview; pen and glass stay unmeasured
                look_at_overview(_overview(reader, settings, header), mask, header, marks=marks)
            return tissue_of_file(edited, header)
        overview = _overview(reader, settings, header)
        seen = look_at_overview(overview, mask, header, marks=marks)
        if network is not None:
            return tissue_of_network(_by_network(reader, network, settings, header=header), mask, header)
        return tissue_of_overview(overview, seen, mask, header=header, marks=marks)


@contextmanager
def _opened(row: SlideRow, settings: Settings) -> Iterator[SlideReader]:
    with _unreadable_if_raised():
        reader = open_slide(row.path, background=settings.slides.background)
    try:
        yield reader
    finally:
        with _unreadable_if_raised():
            reader.close()


@contextmanager
def _unreadable_if_raised() -> Iterator[None]:
    """Whatever a reader raises ends as unreadable."""
    try:
        yield
    except (WsiKdError, MemoryError):
        raise
    except Exception as error:
        raise reading_failed(error) from None


def _overview(reader: SlideReader, settings: Settings, header: dict[str, Any]) -> Overview:
    """Look at the slide as long as `reader` is open; its rows are read when they are asked for."""
    with _unreadable_if_raised():
        return open_overview(
            reader,
            slide_mpp=header["slide_mpp"],
            overview_mpp=settings.mask.mask_mpp,
            color=settings.slides.color,
        )


def _by_network(
    reader: SlideReader, network: SegmentationNetwork, settings: Settings, *, header: dict[str, Any]
) -> NetworkMask:
    with _unreadable_if_raised():
        return segment_by_network(
            reader,
            network,
            given=_network_input(settings.mask),
            slide_mpp=header["slide_mpp"],
            mask_mpp=settings.mask.mask_mpp,
            color=settings.slides.color,
        )


def _read_geometry(reader: SlideReader, row: SlideRow, settings: Settings, *, header: dict[str, Any]) -> None:
    header["level0_width"], header["level0_height"] = reader.level_dimensions[0]
    header["bounds"] = list(reader.bounds)
    header["center_nm"] = slide_center_nm(reader.properties)
    header["facts"] = slide_facts(reader)._asdict()
    mpp = slide_resolution(reader.properties, settings.slides, override=row.slide_mpp)
    header.update(slide_mpp=mpp.mpp, mpp_x=mpp.mpp_x, mpp_y=mpp.mpp_y, mpp_source=mpp.source)
    header.update(mpp_entry=mpp.entry, mpp_others=list(mpp.others))
    header["reason"] = joined_notes(mpp.doubt, series_doubt(reader.properties))


def _network_input(mask: MaskSettings) -> NetworkInput:
    return NetworkInput(
        mpp=mask.network_mpp,
        tile_px=mask.network_tile_px,
        margin_px=mask.network_margin_px,
        mean=mask.network_mean,
        std=mask.network_std,
        classes=mask.network_classes,
    )


def _inputs(row: SlideRow, settings: Settings, network: SegmentationNetwork | None) -> _Inputs:
    try:
        fingerprint = slide_fingerprint(row.path)
    except OSError:
        fingerprint = ""  # the reader tells what is wrong with the file
    edited = edited_outline(row, settings.mask.edited_dir)
    edited_sha256 = file_hash(edited) if edited else ""
    sections = _sections(settings)
    for key in ("edited_dir", "network", "network_device"):  # where files lie; what is in them counts
        sections["mask"].pop(key)
    parts = {
        "fingerprint": fingerprint,
        "edited": [edited.suffix.lower() if edited else "", edited_sha256],
        "network_sha256": network.sha256 if network else "",
        "slide_mpp": row.slide_mpp,
    }
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

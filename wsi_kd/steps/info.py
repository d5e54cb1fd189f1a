"""What a slide is, how it would be read, whether it can be used: steps mask and tile, nothing written."""

from typing import Any, NamedTuple

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.bags.slide_files import told_name
from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.core.shapes import Coords
from wsi_kd.settings.all import Settings
from wsi_kd.slides.info import SlideFile, describe_file
from wsi_kd.slides.mpp import ResolvedMpp
from wsi_kd.slides.pyramid import ReadPlan, plan_read
from wsi_kd.slides.reader import open_slide
from wsi_kd.slides.tile_source import open_tile_source
from wsi_kd.slides.whole_series import series_doubt
from wsi_kd.steps.mask import mask_slide
from wsi_kd.steps.resolution import slide_resolution
from wsi_kd.steps.status import joined_notes, unnamed
from wsi_kd.steps.tile import tile_slide
from wsi_kd.tissue.segmentation_network import SegmentationNetwork


class SlideInfo(NamedTuple):
    """One slide as `wsi-kd info` tells it; what could not be found out is None."""

    slide_id: str
    file: str
    status: SlideStatus
    reason: str
    stored: SlideFile | None
    mpp: ResolvedMpp | None
    plan: ReadPlan | None
    tiles_at_most: int | None
    """Tiles that fit into the slide's bounds."""
    tiles: int | None
    """Tiles on tissue; None where no pixels were looked at."""
    tissue_mm2: float | None
    read_by: str
    """How the tiles on tissue would be read, and if not by offset, why; empty where there are none."""

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON, named tuples as objects."""
        return {key: _plain(value) for key, value in self._asdict().items()}


def describe_slide(
    row: SlideRow, settings: Settings, *, look: bool, network: SegmentationNetwork | None = None
) -> SlideInfo:
    """Describe a slide and say whether the steps mask and tile would use it.

    Args:
        row: the slide; its `slide_mpp` goes before the metadata.
        settings: sections `slides`, `mask` and `tile` are used.
        look: whether the overview is read and tissue sought, as the step mask does; else only the header.
        network: what `mask_network` returns for these settings.
    """
    found = _described(row, settings)
    if not look or found.status in {SlideStatus.UNREADABLE, SlideStatus.READER_CRASHED}:
        return found
    tissue = mask_slide(row, settings, network=network)
    tiles = tile_slide(tissue, row, settings)
    header = tiles.header
    return found._replace(
        status=SlideStatus(header["status"]),
        reason=header["reason"] or found.reason,
        tiles=len(tiles.coords),
        tissue_mm2=float(header["tissue_mm2"]),
        read_by=_read_by(row, settings, plan=found.plan, coords=tiles.coords),
    )


def _read_by(row: SlideRow, settings: Settings, *, plan: ReadPlan | None, coords: Coords) -> str:
    if plan is None or not len(coords):
        return ""
    with open_slide(row.path, background=settings.slides.background) as reader:
        source = open_tile_source(reader, plan, coords)
        source.close()
        return source.how


def _described(row: SlideRow, settings: Settings) -> SlideInfo:
    """Describe by the header alone."""
    found = SlideInfo(
        row.slide_id,
        told_name(row.slide_id, row.path),
        SlideStatus.OK,
        "",
        None,
        None,
        None,
        None,
        None,
        None,
        "",
    )
    try:
        with open_slide(row.path, background=settings.slides.background) as reader:
            found = found._replace(stored=describe_file(reader))
            mpp = slide_resolution(reader.properties, settings.slides, override=row.slide_mpp)
            found = found._replace(mpp=mpp, reason=joined_notes(mpp.doubt, series_doubt(reader.properties)))
            tile = settings.tile
            plan = plan_read(
                reader.level_downsamples,
                slide_mpp=mpp.mpp,
                tile_mpp=tile.tile_mpp,
                tile_px=tile.tile_px,
                mpp_tolerance=tile.mpp_tolerance,
            )
            stride = plan.tile_level0_px * (1 - tile.overlap_px / tile.tile_px)
            _, _, width, height = reader.bounds
            at_most = _fitting(width, plan, stride) * _fitting(height, plan, stride)
            return found._replace(plan=plan, tiles_at_most=at_most)
    except SlideProblem as problem:
        return found._replace(status=problem.status, reason=unnamed(problem.reason, row))


def _fitting(length_level0_px: int, plan: ReadPlan, stride_level0_px: float) -> int:
    """Count the tiles of a row or column that lie inside `length_level0_px`."""
    room = length_level0_px - plan.tile_level0_px
    return int(room / stride_level0_px + 1e-9) + 1 if room >= 0 else 0


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        return {key: _plain(part) for key, part in value._asdict().items()}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, SlideStatus) else value

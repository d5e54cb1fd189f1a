"""The slides of the gallery, read again: a thumbnail and a few tiles each, or why there are none."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from wsi_kd.bags.manifest import Manifest
from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.core.shapes import Pixels
from wsi_kd.inference.mappings import default_mapping, tile_mapping
from wsi_kd.inference.tables import TileTable, read_tiles_csv
from wsi_kd.report.gallery import SlideView
from wsi_kd.report.gallery_choice import Chosen
from wsi_kd.report.gallery_tiles import ShownTile, rank_tiles, shown_tiles
from wsi_kd.settings.results import ReportSettings
from wsi_kd.settings.slides import SlidesSettings, TileSettings
from wsi_kd.slides.fingerprint import slide_fingerprint
from wsi_kd.slides.icc import recolor
from wsi_kd.slides.pyramid import ReadPlan, plan_read, read_thumbnail, read_tile
from wsi_kd.slides.reader import SlideReader, open_slide
from wsi_kd.steps.report_inputs import RunInputs, model_folder

REPLACED = "the file is not the one that the features were made of"
UNNAMED = "its file is not named; give the run's manifest: --manifest slides.csv (and --slides-dir FOLDER)"
ABSENT = "its file is not where the manifest says; name it: --manifest slides.csv (and --slides-dir FOLDER)"


class Slides(NamedTuple):
    """Where the slides are and how they were read for the models."""

    results_dir: Path
    paths: Mapping[str, Path]
    mpps: Mapping[str, float | None]
    fingerprints: Mapping[str, str]
    reading: SlidesSettings
    tiling: TileSettings
    report: ReportSettings


class Seen(NamedTuple):
    """A slide's pictures, or why there are none."""

    view: SlideView | None
    note: str


def slides_of(results_dir: Path, manifest: Manifest, run: RunInputs, *, report: ReportSettings) -> Slides:
    """Gather where slides are; how they are read is what the first model's file recorded."""
    sections: Mapping[str, Any] = run.headers[0]["sections"] if run.headers else {}
    return Slides(
        results_dir,
        paths={row.slide_id: row.path for row in manifest.rows},
        mpps={slide.slide_id: slide.slide_mpp for slide in run.slides},
        fingerprints=run.fingerprints,
        reading=SlidesSettings(**sections.get("slides", {})),
        tiling=TileSettings(**sections.get("tile", {})),
        report=report,
    )


def look_at(chosen: Chosen, slides: Slides) -> Seen:
    """Read one slide of the gallery; one that cannot be read any more is told, without its folder.

    Raises:
        BadInput: its table of tile scores is missing or damaged.
    """
    slide_id = chosen.row.slide_id
    scores = model_folder(slides.results_dir, "predictions", model=chosen.model) / "tiles"
    tiles = read_tiles_csv(scores / f"{slide_id}.csv")
    if slide_id not in slides.paths:
        return Seen(None, f"No picture: {UNNAMED}")
    path = slides.paths[slide_id]
    if not path.exists():
        return Seen(None, f"No picture: {ABSENT}")
    try:
        return Seen(_view(chosen, tiles, slides), "")
    except SlideProblem as problem:
        return Seen(None, f"No picture: {problem.reason.replace(str(path), path.name)}")


def _view(chosen: Chosen, tiles: TileTable, slides: Slides) -> SlideView:
    slide_id = chosen.row.slide_id
    path, slide_mpp = slides.paths[slide_id], slides.mpps.get(slide_id)
    if not tiles.tile_level0_px:
        raise SlideProblem(SlideStatus.MISSING_FEATURES, "its features came without positions or tile sizes")
    if not slide_mpp:
        raise SlideProblem(SlideStatus.MISSING_MPP, "its resolution is unknown; see the column slide_mpp")
    with open_slide(path, background=slides.reading.background) as reader:
        if slides.fingerprints.get(slide_id, "") not in ("", slide_fingerprint(path)):
            raise SlideProblem(SlideStatus.UNREADABLE, REPLACED)
        longer_px = max(reader.bounds.width_level0_px, reader.bounds.height_level0_px)
        thumbnail = read_thumbnail(
            reader,
            slide_mpp=slide_mpp,
            thumbnail_mpp=slide_mpp * longer_px / slides.report.heatmap_px,
            color=slides.reading.color,
        )
        read = _read_tiles(reader, chosen, tiles, slides=slides, slide_mpp=slide_mpp)
    return SlideView(
        *thumbnail,
        slide_mpp=slide_mpp,
        tiles=tiles,
        shown=tuple(tile for tile, _ in read),
        crops=tuple(pixels for _, pixels in read),
    )


def _read_tiles(
    reader: SlideReader, chosen: Chosen, tiles: TileTable, *, slides: Slides, slide_mpp: float
) -> list[tuple[ShownTile, Pixels]]:
    """Read the tiles with the highest and the lowest scores; one that is damaged is left out."""
    tile_mpp = tiles.tile_level0_px * slide_mpp / slides.tiling.tile_px
    mapped = tile_mapping(tiles, default_mapping(tiles))
    ranked = rank_tiles(
        mapped,
        tiles.coords,
        tile_level0_px=tiles.tile_level0_px,
        size_level0_px=reader.level_dimensions[0],
        count=slides.report.top_tiles,
    )
    described = shown_tiles(
        ranked, mapped, tiles, model=chosen.model.key, slide_id=chosen.row.slide_id, tile_mpp=tile_mpp
    )
    plan = plan_read(
        reader.level_downsamples,
        slide_mpp=slide_mpp,
        tile_mpp=tile_mpp,
        tile_px=slides.tiling.tile_px,
        mpp_tolerance=slides.tiling.mpp_tolerance,
    )
    change = recolor(reader, slides.reading.color)
    read = ((tile, _pixels(reader, tile, plan)) for tile in described)
    return [
        (tile, pixels if change is None else change(pixels)) for tile, pixels in read if pixels is not None
    ]


def _pixels(reader: SlideReader, tile: ShownTile, plan: ReadPlan) -> Pixels | None:
    try:
        return read_tile(reader, x_level0_px=tile.x_level0_px, y_level0_px=tile.y_level0_px, plan=plan)
    except SlideProblem:
        return None

"""Step heatmap: tile scores of a run, or of `infer` -> pictures, a pyramid, tiles and regions of a slide."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from wsi_kd.core.errors import BadInput, SlideProblem
from wsi_kd.core.files import writable_folder
from wsi_kd.core.progress import progress
from wsi_kd.inference.export import write_tiles_geojson
from wsi_kd.inference.mappings import (
    MappedTiles,
    check_mapping,
    default_mapping,
    mapping_slug,
    tile_mapping,
)
from wsi_kd.report.overlay import palette
from wsi_kd.steps.heatmap_files import (
    Choice,
    Pictured,
    Scored,
    read_scored,
    region_threshold,
    write_facts,
    write_regions,
)
from wsi_kd.steps.heatmap_pictures import check_resolutions, opened, write_pictures, write_pyramid
from wsi_kd.steps.heatmap_sources import Drawn, collect_drawn
from wsi_kd.steps.known_slides import Sources
from wsi_kd.viewer.record import Viewed

STEP: Final = "heatmap"
TILES_GEOJSON: Final = "tiles.geojson"
PICTURE, PYRAMID, REGIONS, FACTS = ".png", ".ome.tiff", ".regions.geojson", ".json"
"""Endings of a mapping's files."""


class Made(NamedTuple):
    """What became of one slide."""

    slide_id: str
    model: str
    folder: Path
    files: tuple[str, ...]
    problem: str
    """Why something is missing; empty where nothing is."""
    outside: int = 0
    """Tiles outside the slide's bounds."""


def run_heatmap(
    target: Path,
    sources: Sources,
    choice: Choice,
    *,
    slide_ids: Sequence[str] = (),
    model: str = "",
    out: Path | None = None,
    on_slide: Callable[[Made], None] = lambda _: None,
) -> list[Made]:
    """Write each slide's tiles, and for each mapping a picture, regions, a pyramid, and what they show.

    A slide whose file is not there still gets its tiles and regions.

    Args:
        target: a run's folder, or one that `infer` wrote.
        sources: where slides are.
        choice: mappings, resolutions, threshold, colors.
        slide_ids: which slides; none: all.
        model: which model of a run, see `collect_drawn`.
        out: output folder; None: `heatmaps` in `target`.
        on_slide: told what became of each slide.

    Raises:
        BadInput: nothing to draw, an unknown mapping, colormap, slide or model, several recipes to choose
            from.
        RunFailed: a file cannot be written.
    """
    _check(choice)
    collected = collect_drawn(target, sources, slide_ids=slide_ids, model=model)
    made = []
    with progress(STEP, total=len(collected.slides), unit="slides") as advance:
        for drawn in collected.slides:
            folder = (out or collected.out) / drawn.folder
            made.append(_draw(drawn, collected.viewed, choice, folder=folder))
            on_slide(made[-1])
            advance(slide_id=drawn.slide_id, note=made[-1].problem)
    return made


def _check(choice: Choice) -> None:
    """Refuse what no slide can be drawn by."""
    for key in choice.mappings:
        check_mapping(key)
    palette(choice.colormap)
    for option, value in (
        ("--threshold", choice.threshold),
        ("--um-per-px", choice.um_per_px),
        ("--tiff-um-per-px", choice.tiff_um_per_px),
    ):
        if value is not None and not math.isfinite(value):
            raise BadInput(f"{option} {value}: expected a finite number")


def _draw(drawn: Drawn, viewed: Viewed, choice: Choice, *, folder: Path) -> Made:
    """Write one slide's files; what cannot be written for want of the slide's pixels is told as a problem."""
    made = Made(drawn.slide_id, drawn.model, folder, files=(), problem="")
    try:
        scored = read_scored(drawn, viewed)
        keys = dict.fromkeys(choice.mappings or (default_mapping(scored.tiles),))
        mapped = [tile_mapping(scored.tiles, key, classes=viewed.classes) for key in keys]
        pictured = check_resolutions(scored, choice)
    except BadInput as error:
        return made._replace(problem=str(error))
    writable_folder(folder)
    _clear(folder, mapped)
    origin = (scored.bounds.x_level0_px, scored.bounds.y_level0_px)
    write_tiles_geojson(
        folder / TILES_GEOJSON, scored.tiles, slide_id=drawn.slide_id, origin=origin, classes=viewed.classes
    )
    thresholds = {one.key: region_threshold(scored, one, choice) for one in mapped}
    for one in mapped:
        if (threshold := thresholds[one.key]["value"]) is not None:
            write_regions(_path(folder, one, REGIONS), scored, one, threshold=threshold)
    problem = ""
    try:
        _write_pixels(scored, mapped, pictured, folder=folder, colormap=choice.colormap)
    except (BadInput, SlideProblem) as error:
        problem = error.reason if isinstance(error, SlideProblem) else str(error)
        pictured = Pictured()
    names = _write_all_facts(
        scored, mapped, choice, folder=folder, thresholds=thresholds, pictured=pictured, problem=problem
    )
    return made._replace(files=(TILES_GEOJSON, *names), problem=problem, outside=scored.outside)


def _write_pixels(
    scored: Scored, mapped: Sequence[MappedTiles], pictured: Pictured, *, folder: Path, colormap: str
) -> None:
    with opened(scored) as reader:
        if pictured.picture is not None:
            paths = {one.key: _path(folder, one, PICTURE) for one in mapped}
            write_pictures(
                paths, reader, scored, mapped=mapped, um_per_px=pictured.picture, colormap=colormap
            )
        if pictured.pyramid is not None:
            for one in mapped:
                write_pyramid(
                    _path(folder, one, PYRAMID),
                    reader,
                    scored,
                    mapped=one,
                    um_per_px=pictured.pyramid,
                    colormap=colormap,
                )


def _write_all_facts(
    scored: Scored,
    mapped: Sequence[MappedTiles],
    choice: Choice,
    *,
    folder: Path,
    thresholds: Mapping[str, Mapping[str, Any]],
    pictured: Pictured,
    problem: str,
) -> list[str]:
    """Write each mapping's facts, after its files, and return the names of all."""
    names = []
    for one in mapped:
        paths = [_path(folder, one, ending) for ending in (PICTURE, PYRAMID, REGIONS)]
        present = [path.name for path in paths if path.is_file()]
        write_facts(
            _path(folder, one, FACTS),
            scored,
            one,
            threshold=thresholds[one.key],
            pictured=pictured,
            choice=choice,
            names=present,
            problem=problem,
        )
        names += [*present, _path(folder, one, FACTS).name]
    return names


def _clear(folder: Path, mapped: Sequence[MappedTiles]) -> None:
    """Remove a former run's files of these mappings: none may stand beside newer ones."""
    for one in mapped:
        for ending in (FACTS, PICTURE, PYRAMID, REGIONS):
            _path(folder, one, ending).unlink(missing_ok=True)


def _path(folder: Path, mapped: MappedTiles, ending: str) -> Path:
    return folder / f"{mapping_slug(mapped.key)}{ending}"

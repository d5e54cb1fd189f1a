"""One slide as a folder that opens from disk: the page, its tiles, its scores; no server, nothing else."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish_folder
from wsi_kd.viewer.answers import run_answer, slides_answer, to_json
from wsi_kd.viewer.app import INDEX, static_files
from wsi_kd.viewer.deepzoom import DeepZoom
from wsi_kd.viewer.desk import Desk

MARK: Final = b"window.WSI_KD_EXPORT = "
DATA, TILES, STATIC, ASSOCIATED = "data.js", "tiles", "static", "associated"
WRITTEN: Final = frozenset({INDEX, DATA, TILES, STATIC, ASSOCIATED})
SERVED, EXPORTED = b'data-source="http"', b'data-source="export"'
GLASS_IMAGES: Final = frozenset({"label", "macro", "thumbnail"})
"""Images of the glass whose names are fit for a file."""
SAMPLED_TILES: Final = 24
"""Tiles read to guess the size of all."""


class ExportPlan(NamedTuple):
    """What an export will hold, told before it is written."""

    slide: int
    """Its place in the list."""
    max_level: int
    """Finest DeepZoom level."""
    um_per_px: float | None
    """Of that level; None where the slide's resolution is unknown."""
    tiles: int
    size_bytes: int
    """Guessed from a few tiles of the finest level."""


class Exported(NamedTuple):
    """What was written."""

    tiles: int
    damaged: int
    """Tiles that are gray because their pixels cannot be read."""
    size_bytes: int


def plan_export(desk: Desk, index: int, *, um_per_px: float) -> ExportPlan:
    """Choose the finest level and guess the size.

    Args:
        desk: answers about the slide.
        index: of the slide.
        um_per_px: the finest level is the coarsest that is at least as fine; 0: the slide's own.

    Raises:
        BadInput: `um_per_px` is no such number; a limit is asked for, but the slide's resolution is unknown.
        SlideProblem: the slide cannot be opened.
    """
    if not 0 <= um_per_px < math.inf:
        raise BadInput(f"--um-per-px {um_per_px}: expected a number of um/px such as 1, or 0 for all pixels")
    answer = desk.slide(index)
    with desk.lend(index) as opened:
        zoom = opened.facts.zoom
    mpp: float | None = answer["mpp"]
    if um_per_px and mpp is None:
        raise BadInput(
            f"{answer['slide_id']}: its resolution is unknown; give it with --slide-mpp, or --um-per-px 0 "
            "for all pixels"
        )
    halvings = math.floor(math.log2(um_per_px / mpp) + 1e-9) if um_per_px and mpp else 0
    max_level = max(zoom.min_level, zoom.full_level - max(0, halvings))
    tiles = sum(math.prod(zoom.tiles(level)) for level in range(zoom.min_level, max_level + 1))
    size = round(tiles * _mean_tile_bytes(desk, index, level=max_level))
    return ExportPlan(
        index,
        max_level,
        um_per_px=mpp and mpp * zoom.downsample(max_level),
        tiles=tiles,
        size_bytes=size + len(_data(desk, index, max_level)) + sum(map(len, static_files().values())),
    )


def write_export(
    desk: Desk, plan: ExportPlan, folder: Path, *, threads: int, on_tile: Callable[[], object]
) -> Exported:
    """Write the folder, all of it or nothing; a former export in its place is replaced.

    Args:
        desk: answers about the slide.
        plan: from `plan_export`.
        folder: to write.
        threads: that read tiles.
        on_tile: called after each tile.

    Raises:
        BadInput: `folder` is there and is no former export.
        RunFailed: it cannot be written.
        SlideProblem: the slide cannot be opened any more.
    """
    check_export_folder(folder)
    with publish_folder(folder) as temporary:
        _write_page(desk, plan, temporary)
        damaged = 0
        with desk.lend(plan.slide) as opened, ThreadPoolExecutor(threads) as pool:
            addresses = list(_addresses(opened.facts.zoom, plan.max_level))

            def write(address: tuple[int, int, int]) -> bool:
                level, column, row = address
                tile = desk.tile(plan.slide, level=level, column=column, row=row)
                (temporary / TILES / str(level) / f"{column}_{row}.jpg").write_bytes(tile.jpeg)
                return bool(tile.damage)

            for is_damaged in pool.map(write, addresses):
                damaged += is_damaged
                on_tile()
        size = sum(file.stat().st_size for file in temporary.rglob("*") if file.is_file())
    return Exported(plan.tiles, damaged, size)


def check_export_folder(folder: Path) -> None:
    """Refuse to replace anything but an empty folder or a former export to which nobody added anything.

    Raises:
        BadInput: in that case.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    data = folder / DATA
    if folder.is_dir() and data.is_file():
        with data.open("rb") as handle:
            is_export = handle.read(len(MARK)) == MARK
        added = sorted(path.name for path in folder.iterdir() if path.name not in WRITTEN)
        if is_export and added:
            raise BadInput(f"{folder}: holds {added[0]} beside a former export; name a new or empty folder")
        if is_export:
            return
    raise BadInput(f"{folder}: is there and is no former export; name a new or empty folder")


def _write_page(desk: Desk, plan: ExportPlan, folder: Path) -> None:
    """Write everything but tiles (called within `publish_folder`)."""
    (folder / STATIC).mkdir()
    for name, content in static_files().items():
        if name == INDEX:
            if content.count(SERVED) != 1:
                raise RuntimeError(f"{INDEX}: expected {SERVED!r} once")
            (folder / INDEX).write_bytes(content.replace(SERVED, EXPORTED))
        else:
            (folder / STATIC / name).write_bytes(content)
    (folder / DATA).write_bytes(_data(desk, plan.slide, plan.max_level))
    names = GLASS_IMAGES & set(desk.slide(plan.slide).get(ASSOCIATED, ()))
    for name in sorted(names):
        (folder / ASSOCIATED).mkdir(exist_ok=True)
        (folder / ASSOCIATED / f"{name}.jpg").write_bytes(desk.associated(plan.slide, name))
    with desk.lend(plan.slide) as opened:
        for level in range(opened.facts.zoom.min_level, plan.max_level + 1):
            (folder / TILES / str(level)).mkdir(parents=True)


def _data(desk: Desk, index: int, max_level: int) -> bytes:
    """Return data.js: all answers about this one slide, in a script, for a page from disk may not fetch."""
    slide = desk.viewed.slides[index]
    answer = {**desk.slide(index), "max_level": max_level}
    if ASSOCIATED in answer:
        answer[ASSOCIATED] = [name for name in answer[ASSOCIATED] if name in GLASS_IMAGES]
    value: dict[str, Any] = {
        "run": {**run_answer(desk.viewed), "report": False},
        "slides": slides_answer([slide]),
        "slide": answer,
        "scores": {model: desk.scores(index, model) for model in answer["models"]},
        "annotations": desk.outlines(index) if answer["annotations"] else None,
    }
    return MARK + to_json(value) + b";\n"


def _addresses(zoom: DeepZoom, max_level: int) -> Iterator[tuple[int, int, int]]:
    """Yield level, column and row of every tile, row by row."""
    for level in range(zoom.min_level, max_level + 1):
        columns, rows = zoom.tiles(level)
        yield from ((level, column, row) for row, column in product(range(rows), range(columns)))


def _mean_tile_bytes(desk: Desk, index: int, *, level: int) -> float:
    """Return the mean size of tiles spread evenly over a level."""
    with desk.lend(index) as opened:
        columns, rows = opened.facts.zoom.tiles(level)
    count = min(SAMPLED_TILES, columns * rows)
    places = [(2 * sample + 1) * columns * rows // (2 * count) for sample in range(count)]
    sizes = [
        len(desk.tile(index, level=level, column=place % columns, row=place // columns).jpeg)
        for place in places
    ]
    return sum(sizes) / len(sizes)

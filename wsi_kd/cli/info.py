"""Command info: what a slide is, how it would be read, and why it cannot be used."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wsi_kd.cli.infer_options import SlideMpp
from wsi_kd.cli.options import ConfigFile
from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.core.records import SlideStatus
from wsi_kd.settings.all import Settings, parse_settings, read_settings

if TYPE_CHECKING:
    from wsi_kd.slides.info import SlideFile, StoredLevel
    from wsi_kd.steps.info import SlideInfo

Slides = Annotated[
    list[Path], typer.Argument(help="Slide files, folders of slides, or CSV files with a column path.")
]
TileMpp = Annotated[
    float | None, typer.Option("--tile-mpp", help="um/px of tiles; default: tile.tile_mpp of the settings.")
]
TilePx = Annotated[
    int | None, typer.Option("--tile-px", help="Edge of tiles; default: tile.tile_px of the settings.")
]
Header = Annotated[
    bool, typer.Option("--header", help="Look at headers alone: no overview is read, no tissue sought.")
]
COLUMNS = ("slide", "status", "format", "size px", "levels", "um/px", "tiles", "tissue mm2", "reason")
WIDTH = 140
LISTED = 8
_STYLES = {str(status): "bold red" for status in SlideStatus} | {str(SlideStatus.OK): "green"}


def info(
    slides: Slides,
    *,
    tile_mpp: TileMpp = None,
    tile_px: TilePx = None,
    slide_mpp: SlideMpp = None,
    config: ConfigFile = None,
    header: Header = False,
    listed_as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead.")] = False,
) -> None:
    """Tell format, levels, resolution and usability of slides; exit code 1 where one cannot be used."""
    from wsi_kd.bags.manifest import rows_of_slides

    settings = _settings(config, tile_mpp=tile_mpp, tile_px=tile_px)
    rows = rows_of_slides(slides, slide_mpp)
    from wsi_kd.steps.info import describe_slide
    from wsi_kd.steps.mask import mask_network

    network = None if header else mask_network(settings)
    found = [describe_slide(row, settings, look=not header, network=network) for row in rows]
    if listed_as_json:
        typer.echo(json.dumps([one.as_json() for one in found], indent=1, ensure_ascii=False))
    elif len(found) == 1:
        _print_lines(list(_lines(found[0], settings)))
    else:
        _print_table(found)
    unusable = [one.slide_id for one in found if one.status != SlideStatus.OK]
    if unusable:
        listed = ", ".join(unusable[:LISTED]) + (", ..." if len(unusable) > LISTED else "")
        raise RunFailed(f"{len(unusable)} of {len(found)} slides cannot be used: {listed}")


def _settings(config: Path | None, *, tile_mpp: float | None, tile_px: int | None) -> Settings:
    settings = parse_settings({}, where="defaults") if config is None else read_settings(config)
    given = {"tile_mpp": tile_mpp, "tile_px": tile_px}
    changed = {key: value for key, value in given.items() if value is not None}
    if not changed:
        return settings
    tile = {**settings.tile.model_dump(mode="json"), **changed}
    try:
        checked = parse_settings({"tile": tile}, where="--tile-mpp, --tile-px")
    except BadInput:
        told = ", ".join(f"{key} {value:g}" for key, value in changed.items())
        raise BadInput(f"--tile-mpp, --tile-px: {told}; expected um/px above 0 and at least 8 px") from None
    return settings.model_copy(update={"tile": checked.tile})


def _lines(one: "SlideInfo", settings: Settings) -> Iterator[tuple[str, str]]:
    yield "slide", one.file
    yield "status", str(one.status)
    if one.reason:
        yield "reason", one.reason
    if one.stored is not None:
        yield from _file_lines(one.stored)
    if one.mpp is not None:
        edges = f" ({one.mpp.mpp_x:.4g} by {one.mpp.mpp_y:.4g})" if one.mpp.mpp_x != one.mpp.mpp_y else ""
        yield "um/px", f"{one.mpp.mpp:.4g}{edges} by {one.mpp.source}: {one.mpp.entry}"
        for other in one.mpp.others:
            yield "um/px, also", other
    if one.plan is not None:
        plan, tile = one.plan, settings.tile
        factor = plan.footprint_px / plan.tile_px
        yield "tiles of", f"{tile.tile_px} px at {tile.tile_mpp:g} um/px"
        yield "are read", f"{plan.read_px} px of level {plan.level}, {_resize_told(factor)}"
        if one.read_by:
            yield "read by", one.read_by
        yield "tiles", f"{_counted(one.tiles, 'on tissue, ')}{one.tiles_at_most} at most"
    if one.tissue_mm2 is not None:
        yield "tissue", f"{one.tissue_mm2:.3g} mm2"


def _file_lines(stored: "SlideFile") -> Iterator[tuple[str, str]]:
    facts = stored.facts
    yield "format", facts.format
    for name, told in (("vendor", facts.vendor), ("scanner", facts.scanner), ("objective", facts.objective)):
        if told:
            yield name, told
    yield "compression", stored.compression
    for number, level in enumerate(stored.levels):
        yield f"level {number}", _level_told(level)
    x, y, width, height = stored.bounds
    yield "bounds", f"{width}x{height} px from x {x}, y {y}"
    yield "background", "#{:02x}{:02x}{:02x}".format(*stored.background)
    if stored.unstored > 0:
        yield "never stored", f"{stored.unstored} tiles of level 0, read as background"
    yield "color profile", f"ICC, {stored.icc_bytes} bytes" if stored.icc_bytes else "none"
    sizes = [f"{name} {width}x{height}" for name, (width, height) in stored.associated.items()]
    yield "other images", ", ".join(sizes) or "none"


def _level_told(level: "StoredLevel") -> str:
    size = f"{level.width_px}x{level.height_px} px, downsample {level.downsample:.6g}"
    if not level.piece_width_px:
        return size
    return f"{size}, stored in {level.piece_width_px}x{level.piece_height_px} px"


def _resize_told(factor: float) -> str:
    if abs(factor - 1) < 1e-9:  # noqa: PLR2004 - rounding of a quotient
        return "not resized"
    return f"shrunk {factor:.4g} times" if factor > 1 else f"enlarged {1 / factor:.4g} times"


def _counted(count: int | None, what: str) -> str:
    return "" if count is None else f"{count} {what}"


def _print_lines(lines: list[tuple[str, str]]) -> None:
    """Print names and values; a terminal shows the names in bold."""
    width = max(len(name) for name, _ in lines)
    if not sys.stdout.isatty():
        for name, value in lines:
            typer.echo(f"{name + ':':<{width + 2}}{value}")
        return
    table = Table.grid(padding=(0, 2))
    for name, value in lines:
        table.add_row(Text(name, style="bold"), Text(value, style=_STYLES.get(value, "")))
    Console().print(table)


def _print_table(found: list["SlideInfo"]) -> None:
    """Print one line a slide: on a terminal a table with the reasons below it, else columns between tabs."""
    rows = [_cells(one) for one in found]
    if not sys.stdout.isatty():
        for cells in (COLUMNS, *rows):
            typer.echo("\t".join(cells))
        return
    table = Table()
    for name in COLUMNS[:-1]:
        table.add_column(name, no_wrap=True)
    for cells in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in cells[:-1]))
    console = Console()
    (console if console.width >= WIDTH else Console(width=WIDTH)).print(table)
    for one in found:
        if one.reason:
            console.print(Text(f"{one.slide_id}: {one.reason}"))


def _cells(one: "SlideInfo") -> tuple[str, ...]:
    stored = one.stored
    size = f"{stored.levels[0].width_px}x{stored.levels[0].height_px}" if stored else ""
    return (
        one.slide_id,
        str(one.status),
        stored.facts.format if stored else "",
        size,
        str(len(stored.levels)) if stored else "",
        f"{one.mpp.mpp:.4g} ({one.mpp.source})" if one.mpp else "",
        str(one.tiles if one.tiles is not None else one.tiles_at_most or ""),
        "" if one.tissue_mm2 is None else f"{one.tissue_mm2:.3g}",
        one.reason,
    )

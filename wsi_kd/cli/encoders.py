"""Command encoders: the tile encoders by short name, and whether their weights are on this machine."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wsi_kd.core.errors import BadInput
from wsi_kd.features.encoder_row import EncoderRow
from wsi_kd.features.encoder_table import (
    ENCODERS,
    OTHER_NAMES,
    as_json,
    find_row,
    markdown_table,
    sight_told,
    tokens_told,
)

WIDTH = 120
COLUMNS = ("name", "features", "fed", "tiles", "license", "gated", "weights")


def encoders(
    *,
    name: Annotated[str | None, typer.Argument(help="Short name: show this one in full.")] = None,
    listed_as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of docs/encoders.md.")
    ] = False,
    weights_dir: Annotated[
        Path | None, typer.Option("--weights-dir", help="Offline folder to look through: embed.weights_dir.")
    ] = None,
) -> None:
    """List the tile encoders by short name: size, license, and where their weights are; asks no network."""
    if markdown:
        if name is not None or listed_as_json:
            raise BadInput("--markdown prints the whole table; give it alone")
        typer.echo(markdown_table(), nl=False)
        return
    rows = list(ENCODERS.values()) if name is None else [find_row(name)]
    facts = [{**as_json(row), "weights": _weights_told(row, weights_dir)} for row in rows]
    if listed_as_json:
        typer.echo(json.dumps(facts if name is None else facts[0], indent=1, ensure_ascii=False))
    elif name is not None:
        typer.echo(_in_full(rows[0], facts[0]))
    else:
        console = Console()
        console = console if console.width >= WIDTH else Console(width=WIDTH)
        console.print(_table(rows, facts))
        console.print(_others())


def _weights_told(row: EncoderRow, weights_dir: Path | None) -> str:
    """Tell where the weights are; an empty text where they are not on this machine."""
    from wsi_kd.features.weight_sources import weights_here

    found = weights_here(row, weights=None, weights_dir=weights_dir)
    return str(found.path) if found else ""


def _table(rows: list[EncoderRow], facts: list[dict[str, Any]]) -> Table:
    table = Table(*COLUMNS)
    for row, fact in zip(rows, facts, strict=True):
        table.add_row(
            row.name,
            str(row.network.feature_dim),
            sight_told(row),
            f"{row.scale.tile_px} px at {row.scale.mpp:g} um/px",
            Text(row.license.name, style="" if row.license.commercial else "yellow"),
            "yes" if row.license.gated else "no",
            Text("here", style="green") if fact["weights"] else _absent(row),
        )
    return table


def _absent(row: EncoderRow) -> Text:
    return Text("on the hub" if row.hub else "give a file")


def _others() -> Table:
    table = Table("other names", "what", "weights")
    for other in OTHER_NAMES:
        table.add_row(other.name, other.what, other.weights)
    return table


def _in_full(row: EncoderRow, fact: dict[str, Any]) -> str:
    use = "" if row.license.commercial else ", no commercial use"
    how = "after a login and an accepted license" if row.license.gated else "without a login"
    sight, network, scale = row.sight, row.network, row.scale
    lines = (
        f"{row.name}: {row.title}",
        f"weights      {fact['weights'] or 'not on this machine'}",
        f"from         {row.page} ({how}): {', '.join(row.files)}",
        f"license      {row.license.name}{use}",
        f"network      {network.timm_name} ({network.parameters:g} M parameters)",
        f"arguments    {_joined(network.arguments)}",
        f"features     {network.feature_dim}: {tokens_told(row)}",
        f"fed          {sight_told(row)}; mean {_numbers(sight.pixel_mean)}, sd {_numbers(sight.pixel_std)}",
        f"tiles        tile.tile_px: {scale.tile_px}, tile.tile_mpp: {scale.mpp:g} "
        f"(trained at {_numbers(scale.trained_mpp)} um/px)",
        f"paper        {row.paper}",
        f"unverified   {'; '.join(row.unverified) or '-'}",
    )
    return "\n".join(lines)


def _joined(arguments: Any) -> str:
    return ", ".join(f"{key}={value}" for key, value in arguments.items()) or "-"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)

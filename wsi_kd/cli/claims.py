"""Commands reproduce (are the papers' claims seen here?) and methods (what a configuration can name)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wsi_kd.claims.claim import Check
from wsi_kd.claims.wording import SMALL_SCALE, figure_text, outcome_text, required_text, spread_text
from wsi_kd.core.messages import say

if TYPE_CHECKING:
    from wsi_kd.claims.catalog import Entry
    from wsi_kd.steps.reproduce import Finished

NARROWEST = 100
"""Columns of a table where the output is no terminal, or a smaller one."""


def reproduce(
    *,
    methods: Annotated[
        list[str] | None,
        typer.Argument(metavar="[METHOD]...", help="Whose claims; default: all. See wsi-kd methods."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", help="Seeds of each claim; default: its own number.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the figures and the page.")] = Path(
        "results/claims"
    ),
    processes: Annotated[int, typer.Option("--processes", help="Claims that run at the same time.")] = 1,
    plots: Annotated[
        Path | None, typer.Option("--plots", help="Folder for each claim's chart as <method>.svg.")
    ] = None,
) -> None:
    """Check each distillation method's own claim at small scale: a table, JSON files and a page."""
    from wsi_kd.steps.reproduce import check_reproduced, chosen_claims, run_reproduce, write_plots

    console = _console()
    done = run_reproduce(
        chosen_claims(methods or []),
        seeds=seeds,
        out_dir=out,
        processes=processes,
        tell=lambda one: _print_claim(console, one),
    )
    console.print(_overview(done.finished))
    typer.echo(SMALL_SCALE)
    say(f"page: {done.page}")
    for chart in write_plots(done.finished, plots) if plots is not None else ():
        say(f"chart: {chart}")
    check_reproduced(done)


def methods(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False
) -> None:
    """List distillation methods, tools and losses: what each needs, its paper, the command that checks it."""
    from wsi_kd.claims.catalog import losses as every_loss
    from wsi_kd.claims.catalog import methods as every_method
    from wsi_kd.claims.catalog import tools as every_tool

    found, tools, losses = every_method(), every_tool(), every_loss()
    if as_json:
        listed = {
            "methods": [entry._asdict() for entry in found],
            "tools": [entry._asdict() for entry in tools],
            "losses": [entry._asdict() for entry in losses],
        }
        typer.echo(json.dumps(listed, indent=1, ensure_ascii=False))
        return
    console = _console()
    columns = ("name", "paper", "needs", "what", "checked_by")
    console.print(_catalog("Methods", found, columns=columns))
    console.print(_catalog("Tools, from Python", tools, columns=columns))
    console.print(_catalog("Losses", losses, columns=("name", "paper", "needs", "what")))


def _console() -> Console:
    console = Console()
    return console if console.width >= NARROWEST else Console(width=NARROWEST)


def _print_claim(console: Console, one: "Finished") -> None:
    """Print one claim: what the paper says, what was observed, what had to be."""
    claim, measured = one.claim, one.measured
    kept = ", kept from an earlier run" if one.kept else ""
    seeds = f"{measured.seeds} seed{'s' if measured.seeds > 1 else ''}"
    heading = f"{claim.method}  ({claim.paper}; {seeds}, {measured.seconds:.1f} s{kept})"
    console.print(Text(heading, style="bold"))
    console.print(Text(f"paper claim: {claim.claims}"))
    rows = [(row.name, spread_text(row)) for row in measured.found.observed]
    console.print(_table(("observed", "mean \N{PLUS-MINUS SIGN} sd"), rows))
    checks = [
        (_said(check), figure_text(check.found), required_text(check), "pass" if check.holds else "FAIL")
        for check in measured.found.checks
    ]
    console.print(_table(("check", "observed", "required", "pass"), checks))
    console.print()


def _said(check: Check) -> str:
    return f"{check.says} ({check.why})" if check.why else check.says


def _overview(finished: Sequence["Finished"]) -> Table:
    rows = []
    for one in finished:
        checks = one.measured.found.checks
        outcome = outcome_text(held=sum(check.holds for check in checks), checks=len(checks))
        rows.append((one.claim.method, one.claim.claims, outcome, f"{one.measured.seconds:.1f}"))
    return _table(("method", "paper claim", "checks", "seconds"), rows)


def _catalog(title: str, entries: Sequence["Entry"], *, columns: Sequence[str]) -> Table:
    shown = [{**entry._asdict(), "needs": ", ".join(entry.needs)} for entry in entries]
    table = _table(columns, [[entry[column] for column in columns] for entry in shown])
    table.title = title
    return table


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(show_edge=False, pad_edge=False, title_justify="left")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(text) for text in row))
    return table


def _cell(text: str) -> Text:
    """Show text as it is, not as markup; what failed stands out."""
    return Text(text, style="bold red" if text.startswith("FAIL") else "")

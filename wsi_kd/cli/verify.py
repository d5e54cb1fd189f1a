"""Command verify: is a finished run still what was written, and do its files belong together?"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wsi_kd.core.errors import RunFailed

if TYPE_CHECKING:
    from wsi_kd.steps.verify_run import Verified

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The run's results folder (run.results_dir).")]


def verify(
    run: RunFolder,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of lines.")] = False,
) -> None:
    """Check every file of a finished run by its hash, and that the files fit together.

    Ends with 0 where nothing is wrong, 1 otherwise; each fault is one line.
    """
    from wsi_kd.steps.verify_run import verify_run

    found = verify_run(run)
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=1, ensure_ascii=False))
    else:
        _print(found)
    if found.faults:
        raise RunFailed(f"{run}: {len(found.faults)} faults; what made each file makes it anew")


def _print(found: "Verified") -> None:
    table = Table("checked", "files", "faults")
    for check in found.checks:
        count = len(check.faults)
        table.add_row(check.what, str(check.files or ""), Text(str(count), style="bold red" if count else ""))
    Console().print(table)
    for fault in found.faults:
        typer.echo(f"{fault.file}: {fault.what}")

"""Commands after a run: check-status (may it count as done?) and summary (its figures in a few lines)."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from wsi_kd.cli.options import ConfigFile, ResultsDir, Run, SettingsJson, open_run
from wsi_kd.core.errors import RunFailed
from wsi_kd.core.files import read_json
from wsi_kd.core.messages import say
from wsi_kd.core.provenance import check_schema
from wsi_kd.core.records import SlideStatus, StatusRow

if TYPE_CHECKING:
    from wsi_kd.evaluation.schema import Metrics

PROGRAM = "wsi-kd"
NAMED_SLIDES = 10
"""A cohort may lose hundreds of slides: this many are named in the error, all of them in the report."""


def check_status(
    *, settings: SettingsJson = None, config: ConfigFile = None, results_dir: ResultsDir = None
) -> None:
    """Fail if more slides ended with a status other than ok than run.max_failed_slides allows."""
    run = open_run(settings=settings, config=config, results_dir=results_dir)
    from wsi_kd.steps.status import read_status

    rows = read_status(run.layout.status)
    failed = [row for row in rows if row.status != SlideStatus.OK]
    allowed = run.settings.run.max_failed_slides
    if len(failed) > allowed:
        raise RunFailed(
            f"{len(failed)} of {len(rows)} slides failed, run.max_failed_slides allows {allowed}: "
            f"{_named(failed)}; all else is finished, see {run.layout.report}; "
            "mend or remove those slides, or raise run.max_failed_slides"
        )
    say(f"{len(rows) - len(failed)} of {len(rows)} slides ok; {len(failed)} failed, {allowed} may")


def summary(
    *, settings: SettingsJson = None, config: ConfigFile = None, results_dir: ResultsDir = None
) -> None:
    """Print the AUCs of a finished run with their intervals, where its report is, how to see its slides."""
    run = open_run(settings=settings, config=config, results_dir=results_dir)
    from wsi_kd.evaluation.summary import summary_lines

    metrics = read_json(run.layout.metrics, remake="wsi-kd evaluate")
    check_schema(metrics, "metrics", where=run.layout.metrics, remake="wsi-kd evaluate")
    for line in summary_lines(cast("Metrics", metrics), report_path=run.layout.report):
        typer.echo(line)
    typer.echo(f"view it: {view_command(run)}")


def view_command(run: Run) -> str:
    """Return the command that shows the run's slides, as it can be typed where this one was."""
    settings, called = run.settings.run, sys.argv[0]
    is_itself = Path(called).name == PROGRAM and shutil.which(PROGRAM) != str(Path(called).absolute())
    slides_dir = ["--slides-dir", str(settings.slides_dir)] if settings.slides_dir else []
    words = ["view", str(run.layout.root), "--manifest", str(settings.manifest), *slides_dir]
    return shlex.join([called if is_itself else PROGRAM, *words])


def _named(failed: list[StatusRow]) -> str:
    named = "; ".join(f"{row.slide_id} ({row.status}: {row.reason})" for row in failed[:NAMED_SLIDES])
    more = len(failed) - NAMED_SLIDES
    return f"{named}; and {more} more" if more > 0 else named

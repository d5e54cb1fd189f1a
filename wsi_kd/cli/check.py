"""Commands after a run: check-status (may it count as done?) and summary (its figures in a few lines)."""

from typing import TYPE_CHECKING, cast

import typer

from wsi_kd.cli.options import ConfigFile, ResultsDir, SettingsJson, open_run
from wsi_kd.core.errors import RunFailed
from wsi_kd.core.files import read_json
from wsi_kd.core.provenance import check_schema
from wsi_kd.core.records import SlideStatus, StatusRow

if TYPE_CHECKING:
    from wsi_kd.evaluation.schema import Metrics

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
    typer.echo(f"{len(rows) - len(failed)} of {len(rows)} slides ok; {len(failed)} failed, {allowed} may")


def summary(
    *, settings: SettingsJson = None, config: ConfigFile = None, results_dir: ResultsDir = None
) -> None:
    """Print the AUCs of a finished run with their intervals, and where its report is."""
    run = open_run(settings=settings, config=config, results_dir=results_dir)
    from wsi_kd.evaluation.summary import summary_lines

    metrics = read_json(run.layout.metrics, remake="wsi-kd evaluate")
    check_schema(metrics, "metrics", where=run.layout.metrics, remake="wsi-kd evaluate")
    for line in summary_lines(cast("Metrics", metrics), report_path=run.layout.report):
        typer.echo(line)


def _named(failed: list[StatusRow]) -> str:
    named = "; ".join(f"{row.slide_id} ({row.status}: {row.reason})" for row in failed[:NAMED_SLIDES])
    more = len(failed) - NAMED_SLIDES
    return f"{named}; and {more} more" if more > 0 else named

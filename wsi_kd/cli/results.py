"""Commands that make results: evaluate, report."""

from pathlib import Path
from typing import Annotated

import typer

from wsi_kd.bags.manifest import Manifest, read_manifest
from wsi_kd.bags.splits import count_folds
from wsi_kd.cli.options import (
    ConfigFile,
    ManifestFile,
    ResultsDir,
    RowsHash,
    Run,
    SettingsJson,
    SlidesDir,
    check_rows,
    open_run,
)
from wsi_kd.core.errors import BadInput
from wsi_kd.core.messages import say

COMPARISON_DIR = Path("results") / "comparison"

Runs = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[RUN]...",
        help="Finished runs (run.results_dir), in the place of --config; several: compared.",
    ),
]
CompareOut = Annotated[
    Path | None,
    typer.Option("--out", help=f"Of several RUN, the folder to write; default: {COMPARISON_DIR}."),
]


def evaluate(
    *,
    settings: SettingsJson = None,
    config: ConfigFile = None,
    manifest: ManifestFile = None,
    slides_dir: SlidesDir = None,
    results_dir: ResultsDir = None,
    rows_hash: RowsHash = None,
) -> None:
    """Measure all models on their test slides: predictions -> evaluation/metrics.json."""
    run = open_run(
        settings=settings, config=config, manifest=manifest, slides_dir=slides_dir, results_dir=results_dir
    )
    from wsi_kd.steps.evaluate import run_evaluate

    sheet = run.manifest(look_for_slides=False)
    check_rows(sheet.rows, step="evaluate", expected=rows_hash)
    run_evaluate(
        sheet,
        features_dir=run.layout.folder("embed"),
        splits_path=run.layout.splits,
        status_path=run.layout.status,
        prediction_dirs=[run.layout.predictions(*model) for model in _models(run, sheet)],
        out_dir=run.layout.metrics.parent,
        settings=run.settings,
    )
    say(f"evaluate: {run.layout.metrics}")


def report(
    runs: Runs = None,
    *,
    settings: SettingsJson = None,
    config: ConfigFile = None,
    manifest: ManifestFile = None,
    slides_dir: SlidesDir = None,
    results_dir: ResultsDir = None,
    out: CompareOut = None,
    rows_hash: RowsHash = None,
) -> None:
    """Draw the page of a run: metrics, histories, heatmaps -> report/index.html; of several: compare them.

    One RUN draws its page again from its own files; pictures of slides need --manifest. Several are compared:
    leaderboard by validation, paired tests -> index.html, comparison.json, leaderboard.csv in --out.
    """
    given = {
        "--settings": settings,
        "--config": config,
        "--results-dir": results_dir,
        "--rows-hash": rows_hash,
    }
    if runs:
        refused = [name for name, value in given.items() if value is not None]
        if refused:
            raise BadInput(f"{refused[0]}: not with RUN, which is read from its own files; give one of both")
        _report_of_runs(runs, manifest=manifest, slides_dir=slides_dir, out=out)
        return
    if out is not None:
        raise BadInput("--out: only with several RUN; a run's own page is written to its report/index.html")
    run = open_run(
        settings=settings, config=config, manifest=manifest, slides_dir=slides_dir, results_dir=results_dir
    )
    sheet = run.manifest()
    check_rows(sheet.rows, step="report", expected=rows_hash)
    from wsi_kd.steps.report import run_report

    page = run_report(sheet, results_dir=run.layout.root, settings=run.settings)
    say(f"report: {page}")


def _report_of_runs(
    runs: list[Path], *, manifest: Path | None, slides_dir: Path | None, out: Path | None
) -> None:
    """Draw one run's page again, or compare several."""
    if len(runs) > 1:
        given = {"--manifest": manifest, "--slides-dir": slides_dir}
        refused = [name for name, value in given.items() if value is not None]
        if refused:
            raise BadInput(f"{refused[0]}: only with one RUN; a comparison shows no slides")
        from wsi_kd.steps.compare_runs import run_compare

        say(f"report: {run_compare(runs, out_dir=out or COMPARISON_DIR)}")
        return
    if out is not None:
        raise BadInput("--out: only with several RUN; a run's own page is written to its report/index.html")
    if slides_dir is not None and manifest is None:
        raise BadInput("--slides-dir: only with --manifest, whose relative paths start there")
    from wsi_kd.steps.finished_run import recorded_manifest, recorded_settings, refuse_unfinished

    (folder,) = runs
    refuse_unfinished(folder)
    settings, sheet = recorded_settings(folder), recorded_manifest(folder)
    if manifest is not None:
        sheet = read_manifest(manifest, slides_dir=slides_dir, classes=sheet.classes)
    from wsi_kd.steps.report import run_report

    say(f"report: {run_report(sheet, results_dir=folder, settings=settings)}")


def _models(run: Run, sheet: Manifest) -> list[tuple[str, int, int]]:
    """List recipe, seed and fold of every model of the run."""
    folds = count_folds(sheet.rows, folds=run.settings.split.folds, given=run.settings.split.given)
    train = run.settings.train
    return [(recipe, seed, fold) for recipe in train.recipes for seed in train.seeds for fold in range(folds)]

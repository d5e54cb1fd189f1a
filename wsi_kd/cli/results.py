"""Commands that make results: evaluate, report."""

import typer

from wsi_kd.bags.manifest import Manifest
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


def evaluate(
    *,
    settings: SettingsJson = None,
    config: ConfigFile = None,
    manifest: ManifestFile = None,
    slides_dir: SlidesDir = None,
    results_dir: ResultsDir = None,
) -> None:
    """Measure all models on their test slides: predictions -> evaluation/metrics.json."""
    run = open_run(
        settings=settings, config=config, manifest=manifest, slides_dir=slides_dir, results_dir=results_dir
    )
    from wsi_kd.steps.evaluate import run_evaluate

    sheet = run.manifest()
    run_evaluate(
        sheet,
        features_dir=run.layout.folder("embed"),
        splits_path=run.layout.splits,
        status_path=run.layout.status,
        prediction_dirs=[run.layout.predictions(*model) for model in _models(run, sheet)],
        out_dir=run.layout.metrics.parent,
        settings=run.settings,
    )
    typer.echo(f"evaluate: {run.layout.metrics}")


def report(
    *,
    settings: SettingsJson = None,
    config: ConfigFile = None,
    manifest: ManifestFile = None,
    slides_dir: SlidesDir = None,
    results_dir: ResultsDir = None,
    rows_hash: RowsHash = None,
) -> None:
    """Draw the page: metrics, histories, heatmaps -> report/index.html."""
    run = open_run(
        settings=settings, config=config, manifest=manifest, slides_dir=slides_dir, results_dir=results_dir
    )
    sheet = run.manifest()
    check_rows(sheet.rows, step="report", expected=rows_hash)
    from wsi_kd.steps.report import run_report

    page = run_report(sheet, results_dir=run.layout.root, settings=run.settings)
    typer.echo(f"report: {page}")


def _models(run: Run, sheet: Manifest) -> list[tuple[str, int, int]]:
    """List recipe, seed and fold of every model of the run."""
    folds = count_folds(sheet.rows, folds=run.settings.split.folds, given=run.settings.split.given)
    train = run.settings.train
    return [(recipe, seed, fold) for recipe in train.recipes for seed in train.seeds for fold in range(folds)]

"""Commands that make models and their scores: split, train, predict."""

from wsi_kd.bags.manifest import chunk_rows
from wsi_kd.cli.options import (
    ConfigFile,
    Fold,
    ManifestFile,
    Recipe,
    ResultsDir,
    RowsHash,
    Seed,
    SettingsJson,
    SlidesDir,
    check_rows,
    open_run,
)
from wsi_kd.core.messages import say


def split(
    *,
    settings: SettingsJson = None,
    config: ConfigFile = None,
    manifest: ManifestFile = None,
    slides_dir: SlidesDir = None,
    results_dir: ResultsDir = None,
    rows_hash: RowsHash = None,
) -> None:
    """Deal the cases into train, val and test: features -> splits.csv and status.csv."""
    run = open_run(
        settings=settings, config=config, manifest=manifest, slides_dir=slides_dir, results_dir=results_dir
    )
    sheet = run.manifest()
    check_rows(sheet.rows, step="split", expected=rows_hash)
    from wsi_kd.steps.split import run_split

    chunks = chunk_rows(sheet.rows, run.settings.run.slides_per_job)
    run_split(
        sheet,
        status_paths=[run.layout.chunk_status("embed", number) for number in range(len(chunks))],
        splits_path=run.layout.splits,
        status_path=run.layout.status,
        settings=run.settings,
    )
    say(f"split: {run.layout.splits}")


def train(
    *,
    recipe: Recipe,
    seed: Seed = 0,
    fold: Fold = 0,
    settings: SettingsJson = None,
    config: ConfigFile = None,
    manifest: ManifestFile = None,
    slides_dir: SlidesDir = None,
    results_dir: ResultsDir = None,
) -> None:
    """Train one model: features, splits.csv -> models/<recipe>/seed<s>/fold<f>/."""
    run = open_run(
        settings=settings, config=config, manifest=manifest, slides_dir=slides_dir, results_dir=results_dir
    )
    from wsi_kd.steps.train import run_train

    out_dir = run.layout.model(recipe, seed, fold)
    teacher_recipe = run.settings.train.distill.teacher_recipe
    run_train(
        features_dir=run.layout.folder("embed"),
        splits_path=run.layout.splits,
        manifest=run.manifest(),
        recipe=recipe,
        seed=seed,
        fold=fold,
        out_dir=out_dir,
        settings=run.settings,
        large_dir=run.layout.model(teacher_recipe, seed, fold) if recipe == "distill" else None,
    )
    say(f"train: {out_dir}")


def predict(
    *,
    recipe: Recipe,
    seed: Seed = 0,
    fold: Fold = 0,
    settings: SettingsJson = None,
    config: ConfigFile = None,
    manifest: ManifestFile = None,
    slides_dir: SlidesDir = None,
    results_dir: ResultsDir = None,
) -> None:
    """Score a model's val and test slides: model, features -> predictions/<recipe>/seed<s>/fold<f>/."""
    run = open_run(
        settings=settings, config=config, manifest=manifest, slides_dir=slides_dir, results_dir=results_dir
    )
    from wsi_kd.steps.predict import run_predict

    out_dir = run.layout.predictions(recipe, seed, fold)
    run_predict(
        features_dir=run.layout.folder("embed"),
        splits_path=run.layout.splits,
        manifest=run.manifest(),
        model_dir=run.layout.model(recipe, seed, fold),
        fold=fold,
        out_dir=out_dir,
        settings=run.settings,
    )
    say(f"predict: {out_dir}")

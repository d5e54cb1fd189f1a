"""Commands that make models and their scores: split, train, predict."""

from typing import Any

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
from wsi_kd.core.errors import unknown_name
from wsi_kd.core.messages import say
from wsi_kd.core.torchrun import heard_if_first, launched_by_torchrun
from wsi_kd.settings.models import RECIPE_NAMES


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
    sheet = run.manifest(look_for_slides=False)
    check_rows(sheet.rows, step="split", expected=rows_hash)
    from wsi_kd.steps.split import run_split

    chunks = chunk_rows(sheet.rows, run.settings.run.slides_per_job)
    run_split(
        sheet,
        status_paths=[run.layout.chunk_status("embed", number) for number in range(len(chunks))],
        splits_path=run.layout.splits,
        status_path=run.layout.status,
        settings=run.settings,
        features_dir=run.layout.folder("embed"),
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
    out_dir = run.layout.model(recipe, seed, fold)
    teacher_recipe = run.settings.train.distill.teacher_recipe
    arguments: dict[str, Any] = {
        "features_dir": run.layout.folder("embed"),
        "splits_path": run.layout.splits,
        "manifest": run.manifest(look_for_slides=False),
        "recipe": recipe,
        "seed": seed,
        "fold": fold,
        "out_dir": out_dir,
        "settings": run.settings,
        "large_dir": run.layout.model(teacher_recipe, seed, fold) if recipe == "distill" else None,
    }
    processes, launched = run.settings.train.processes, launched_by_torchrun()
    with heard_if_first(launched):
        if processes > 1 and launched is None:
            from wsi_kd.steps.train_processes import train_in_processes

            train_in_processes(processes, arguments)
        else:
            from wsi_kd.steps.train import run_train

            run_train(**arguments)
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
    if recipe not in RECIPE_NAMES:
        raise unknown_name("recipe", recipe, RECIPE_NAMES)
    from wsi_kd.steps.predict import run_predict

    out_dir = run.layout.predictions(recipe, seed, fold)
    run_predict(
        features_dir=run.layout.folder("embed"),
        splits_path=run.layout.splits,
        manifest=run.manifest(look_for_slides=False),
        model_dir=run.layout.model(recipe, seed, fold),
        fold=fold,
        out_dir=out_dir,
        settings=run.settings,
    )
    say(f"predict: {out_dir}")

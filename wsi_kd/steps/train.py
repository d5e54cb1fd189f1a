"""Step train: one recipe, seed and fold -> the selected and the last model, and the history."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from wsi_kd.bags.datasets import BagSet
from wsi_kd.bags.manifest import Manifest
from wsi_kd.core.errors import BadInput, unknown_name
from wsi_kd.core.files import publish_table
from wsi_kd.core.places import without_folder, without_paths
from wsi_kd.core.progress import progress
from wsi_kd.core.provenance import stamp
from wsi_kd.inference.slide import TILING
from wsi_kd.settings.all import Settings
from wsi_kd.settings.models import DISTILLING, TrainSettings
from wsi_kd.settings.shared_training import not_shared
from wsi_kd.steps.split import read_fold, seen_hash
from wsi_kd.steps.train_features import load_parts
from wsi_kd.steps.train_large import load_large, told_of
from wsi_kd.steps.train_plan import plan_distillation, plan_optimization
from wsi_kd.steps.train_recipes import RECIPES, recipe_architecture
from wsi_kd.steps.train_sharing import tell_of_waiting
from wsi_kd.steps.train_validation import facts_of_validation
from wsi_kd.training.checkpoint import LoadedModel, save_model
from wsi_kd.training.distillation_checks import check_distillation
from wsi_kd.training.joining import Place, joined, place_by_torchrun
from wsi_kd.training.loop import OnEpoch, Trained
from wsi_kd.training.recipes.auto import CANDIDATES, remove_candidates
from wsi_kd.training.state import HistoryRow, remove_state

SLIDE_SECTIONS: Final[tuple[str, ...]] = ("slides", "mask", "tile", "stain", "embed")
"""Sections that turn a slide into features: `infer` takes them from the checkpoint."""


class Job(NamedTuple):
    """What one training job is about."""

    recipe: str
    seed: int
    fold: int
    classes: tuple[str, ...]
    settings: Settings
    large: LoadedModel | None = None
    """What recipe distill learns from; None for every other recipe."""


def run_train(
    *,
    features_dir: Path,
    splits_path: Path,
    manifest: Manifest,
    recipe: str,
    seed: int,
    fold: int,
    out_dir: Path,
    settings: Settings,
    large_dir: Path | None = None,
    place: Place | None = None,
) -> None:
    """Train on the fold's train part, select and set the limits on its val part; test is not read.

    Writes `last.safetensors`, `last.json`, `history.csv`, `model.safetensors` and, last of all, `model.json`
    to `out_dir`. A killed run leaves `state.safetensors` there and goes on from it, bit for bit on a CPU.
    `large_dir` holds the trained model that recipe distill learns from. `place` is this process's among those
    that train the model together; None: what torchrun says, or it trains alone. Only the first writes files.

    Raises:
        BadInput: an unknown recipe, a teacher that cannot make the soft labels asked for, no such fold,
            features that were made with other settings, parts that cannot be trained on.
        RunFailed: a loss that is not finite, features on disk that change meanwhile, a file that could not be
            written.
    """
    job = Job(recipe, seed, fold, manifest.classes, settings)
    _check_job(job)
    place = place or place_by_torchrun()
    if place is not None:
        _check_shared(settings.train, recipe)
    parts = read_fold(splits_path, fold)
    train, val = load_parts(
        parts,
        manifest,
        features_dir,
        features_in=settings.train.features_in,
        processes=1 if place is None else place.processes,
    )
    _check_features(train, settings)
    if recipe == "distill":
        named = settings.train.distill.teacher_recipe
        large = load_large(
            large_dir, recipe=named, seed=seed, fold=fold, classes=job.classes, header=train.header
        )
        job = job._replace(large=large)
    with joined(place, device=settings.train.device) as ranks:
        tell_of_waiting(train, settings.train, ranks)
        trained = _train_with_progress(job, train, val, work_dir=out_dir)
    if ranks.first:
        seen = {"seen_sha256": seen_hash(parts)}
        _write(job, trained, train=train, val=val, manifest=manifest, out_dir=out_dir, seen=seen)


def _write(
    job: Job,
    trained: Trained,
    *,
    train: BagSet,
    val: BagSet,
    manifest: Manifest,
    out_dir: Path,
    seen: Mapping[str, str],
) -> None:
    facts = {**_facts(job, train, with_student=trained.model.student is not None), **seen}
    models = {
        "last": (trained.last_model, len(trained.history) - 1),
        "model": (trained.model, trained.selected_epoch),
    }
    _write_history(out_dir / "history.csv", trained, facts)
    case_of = {row.slide_id: row.case_id for row in manifest.rows}
    for name, (model, epoch) in models.items():
        chosen = facts_of_validation(model, val, case_of=case_of, settings=job.settings.train)
        save_model(out_dir, name, model, header={**facts, "epoch": epoch, **chosen})
    remove_state(out_dir)
    remove_candidates(out_dir)


def _check_job(job: Job) -> None:
    if job.recipe not in RECIPES:
        raise unknown_name("recipe", job.recipe, RECIPES)
    if job.recipe in DISTILLING:
        train = job.settings.train
        check_distillation(train.teacher, plan_distillation(train), classes=len(job.classes))


def _check_shared(train: TrainSettings, recipe: str) -> None:
    """Torchrun asks no settings how many processes it starts."""
    if reason := not_shared([recipe], train.projectors):
        raise BadInput(f"several processes: {reason}")


def _check_features(bags: BagSet, settings: Settings) -> None:
    """The checkpoint repeats the slide sections for `infer`: they must be those that made these features.

    Features of another program say themselves what made them, and the checkpoint repeats that.
    """
    if "adopted" in bags.header:
        return
    wanted = {
        "encoder": without_folder(settings.embed.encoder),
        "tile_px": settings.tile.tile_px,
        "tile_mpp": settings.tile.tile_mpp,
        "overlap_px": settings.tile.overlap_px,
    }
    odd = [
        f"{key} {bags.header[key]} instead of {value}"
        for key, value in wanted.items()
        if bags.header[key] != value
    ]
    if odd:
        raise BadInput(
            f"the features were made with other settings: {'; '.join(odd)}; "
            "train with the settings that made them, or run anew: wsi-kd embed"
        )


def _train_with_progress(job: Job, train: BagSet, val: BagSet, *, work_dir: Path) -> Trained:
    what = f"train {job.recipe} seed {job.seed} fold {job.fold}"
    trainings = len(CANDIDATES) if job.recipe == "auto" else 1
    with progress(what, total=trainings * job.settings.train.epochs, unit="epochs") as advance:

        def on_epoch(row: HistoryRow) -> None:
            advance(note=f"validation loss {row['selection_loss']:.4f}")

        return train_recipe(job, train, val, work_dir=work_dir, on_epoch=on_epoch)


def train_recipe(job: Job, train: BagSet, val: BagSet, *, work_dir: Path, on_epoch: OnEpoch) -> Trained:
    """Train the job's recipe on bags, in memory or on disk; the step and the benchmarks share it."""
    settings = job.settings.train
    taught = {} if job.large is None else {"large": job.large.model}
    return RECIPES[job.recipe](settings)(
        train,
        val,
        **taught,
        classes=len(job.classes),
        architecture=recipe_architecture(job.recipe, settings),
        optimization=plan_optimization(settings, seed=job.seed),
        work_dir=work_dir,
        on_epoch=on_epoch,
    )


def _facts(job: Job, train: BagSet, *, with_student: bool) -> dict[str, Any]:
    settings = job.settings
    model = {
        **recipe_architecture(job.recipe, settings.train)._asdict(),
        "feature_dim": int(train.features.shape[1]),
        "classes": len(job.classes),
        "with_student": with_student,
    }
    made_with = {"train": settings.train.model_dump(mode="json")}
    return {
        **stamp("model", made_with),
        "recipe": job.recipe,
        "teacher": model["teacher"],
        "model": model,
        "classes": list(job.classes),
        "feature_dim": model["feature_dim"],
        **{key: train.header[key] for key in ("encoder", "encoder_settings", "weights_hash")},
        **{key: train.header.get(key, 0) for key in TILING},
        "network_sha256": train.header.get("network_sha256", ""),
        "stain": train.header.get("stain", {}),
        "sections": slide_sections(train.header, settings),
        "student_pooling": settings.train.student_pooling,
        "top_k": settings.train.top_k,
        "threshold_rule": settings.train.threshold_rule,
        "threshold_split": "val",
        "seed": job.seed,
        "fold": job.fold,
        **({} if job.large is None else {"learned_from": told_of(job.large)}),
    }


def slide_sections(header: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the settings that turned slides into features of this header, for the checkpoint to repeat.

    Of given features: those in our own files' headers; of another program's only that they were given.
    """
    names: tuple[str, ...] = SLIDE_SECTIONS
    if "adopted" in header:
        made_with = dict(header["settings"])
        if "embed" in made_with:
            return without_paths(made_with)
        names = ("slides", "adopt")
    return without_paths({name: getattr(settings, name).model_dump(mode="json") for name in names})


def _write_history(path: Path, trained: Trained, facts: dict[str, Any]) -> None:
    columns = list(trained.history[0])
    rows = [[row[column] for column in columns] for row in trained.history]
    kept = {key: facts[key] for key in ("settings", "settings_hash", "versions", "recipe", "seed", "fold")}
    header = {**stamp("history", kept["settings"]), **kept, "selected_epoch": trained.selected_epoch}
    publish_table(path, columns, rows, stamp=header)

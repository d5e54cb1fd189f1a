"""A finished run read from its own folder: no settings file, no manifest, no slide."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from wsi_kd.bags.manifest import Manifest, SlideRow
from wsi_kd.bags.splits import Fold
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import read_json, sidecar
from wsi_kd.core.places import without_paths
from wsi_kd.core.provenance import check_schema
from wsi_kd.evaluation.run_scores import Entry
from wsi_kd.evaluation.schema import Metrics
from wsi_kd.settings.all import Settings, parse_settings
from wsi_kd.steps.scored_models import ModelPredictions, check_split, read_model, slide_scores
from wsi_kd.steps.split import read_splits

METRICS = Path("evaluation") / "metrics.json"
RECORDED = Path("report") / "slides.csv"
"""Its sidecar tells with which title and section `report` a run's page was drawn."""
REMAKE = "wsi-kd evaluate"
TEACHER, STUDENT = "teacher", "student"


class FinishedRun(NamedTuple):
    """What comparing runs needs of one."""

    name: str
    metrics: Metrics
    folds: tuple[Fold, ...]
    models: tuple[ModelPredictions, ...]
    settings: dict[str, Any]
    """By section and, of training, recipe; paths cut to their last part."""


def refuse_unfinished(folder: Path) -> None:
    """Refuse what is no finished run's folder.

    Raises:
        BadInput: no such folder, or no metrics in it.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; expected a finished run's run.results_dir")
    if not (folder / METRICS).is_file():
        raise BadInput(
            f"{folder}: no {METRICS} there; expected the run.results_dir of a finished run "
            "(after wsi-kd evaluate)"
        )


def run_names(folders: Sequence[Path]) -> list[str]:
    """Name runs by their folders, with as many parents as tell them apart.

    >>> run_names([Path("/data/a/run"), Path("/data/b/run"), Path("/data/b/other")])
    ['a/run', 'b/run', 'other']

    Raises:
        BadInput: one folder twice.
    """
    resolved = [folder.resolve() for folder in folders]
    for folder, place in zip(folders, resolved, strict=True):
        if resolved.count(place) > 1:
            raise BadInput(f"{folder}: given twice; name each run once")
    return [_shortest(place, [other for other in resolved if other != place]) for place in resolved]


def read_finished_run(folder: Path, name: str) -> FinishedRun:
    """Read a run's metrics, split, predictions and recorded settings.

    Raises:
        BadInput: files that are missing, damaged, of another version, or that do not belong together.
    """
    refuse_unfinished(folder)
    metrics = read_json(folder / METRICS, remake=REMAKE)
    check_schema(metrics, "metrics", where=folder / METRICS, remake=REMAKE)
    folds = read_splits(folder / "splits.csv").folds
    places = list(_places(metrics["recipes"]))
    models = tuple(read_model(folder / "predictions" / place, metrics["classes"]) for place in places)
    if not models:
        raise BadInput(f"{folder}: no recipe was evaluated; train, predict and evaluate first")
    check_split(models, folds)
    return FinishedRun(name, cast("Metrics", metrics), folds, models, _settings(folder, metrics, places))


def entries_of(run: FinishedRun) -> list[Entry]:
    """Return the teacher of every recipe and, where it has one, its student as it is deployed."""
    entries = []
    for recipe, measured in run.metrics["recipes"].items():
        models = [model for model in run.models if model.table.header["recipe"] == recipe]
        for score in (TEACHER, STUDENT):
            if score in measured["scores"]:
                parts = {
                    part: tuple(
                        slide_scores(model, score, run.metrics["classes"], part=part) for model in models
                    )
                    for part in ("val", "test")
                }
                entries.append(Entry(run.name, recipe, score, parts["val"], parts["test"]))
    return entries


def recorded_settings(folder: Path) -> Settings:
    """Return the settings by which a run's page was drawn: its title and section `report`, else defaults.

    Raises:
        BadInput: a record that was damaged or that this version does not know.
    """
    if not sidecar(folder / RECORDED).is_file():
        return Settings()
    told = read_json(sidecar(folder / RECORDED), remake="wsi-kd report --config SETTINGS.yaml")["settings"]
    sections = {"run": {"title": told["title"]}, "report": told["report"]}
    return parse_settings(sections, where=str(sidecar(folder / RECORDED)))


def recorded_manifest(folder: Path) -> Manifest:
    """Return the slides that a run's split names: labels and cases, but no file, which no run records.

    Raises:
        BadInput: no split there, or a damaged one.
    """
    splits = read_splits(folder / "splits.csv")
    rows = [SlideRow(row.slide_id, Path(), row.label, row.case_id, "", None, None, "") for row in splits.rows]
    return Manifest(tuple(rows), splits.classes)


def _places(recipes: Mapping[str, Any]) -> Iterator[Path]:
    for recipe, measured in recipes.items():
        for model in measured["models"]:
            yield Path(recipe) / f"seed{model['seed']}" / f"fold{model['fold']}"


def _settings(folder: Path, metrics: Mapping[str, Any], places: Sequence[Path]) -> dict[str, Any]:
    """Collect what made a run: sections of the slides, split, evaluation, and training by recipe.

    Models that were removed to make room tell nothing of slides and training.
    """
    files = [folder / "models" / place / "model.json" for place in places]
    headers = [read_json(path, remake="wsi-kd train") for path in files if path.is_file()]
    split = read_json(sidecar(folder / "splits.csv"), remake="wsi-kd split")["settings"]
    train = {f"train {header['recipe']}": header["settings"]["train"] for header in reversed(headers)}
    sections = headers[0]["sections"] if headers else {}
    return without_paths({**sections, **split, **metrics["settings"], **train})


def _shortest(place: Path, others: Sequence[Path]) -> str:
    for length in range(1, len(place.parts)):
        tail = place.parts[-length:]
        if all(other.parts[-length:] != tail for other in others):
            return "/".join(tail)
    return str(place)

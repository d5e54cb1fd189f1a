"""Step evaluate: predictions of every recipe, seed and fold -> metrics.json and one table of predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from wsi_kd.bags.manifest import Manifest, SlideRow
from wsi_kd.bags.splits import Fold
from wsi_kd.core.files import publish_json
from wsi_kd.core.progress import progress
from wsi_kd.core.provenance import RESEARCH_ONLY, stamp
from wsi_kd.evaluation.against_baseline import MeasuredRecipe, compare_recipes
from wsi_kd.evaluation.baselines import SlideVectors, baseline_scores, color_columns, slide_vector
from wsi_kd.evaluation.cohort import describe_cohort
from wsi_kd.evaluation.schema import (
    LastMeasured,
    Metrics,
    ModelRecord,
    RecipeMetrics,
    ScoreSummary,
    Stamp,
)
from wsi_kd.evaluation.slide_metrics import summarize_slides
from wsi_kd.features.store import read_features
from wsi_kd.settings.all import Settings
from wsi_kd.settings.results import EvaluateSettings
from wsi_kd.steps.evaluated_groups import group_columns, scanner_of
from wsi_kd.steps.evaluated_table import write_test_predictions
from wsi_kd.steps.measured_recipes import measure_recipe, summarize_recipe
from wsi_kd.steps.scored_models import (
    LAST_FOLDER,
    ModelPredictions,
    check_complete,
    check_split,
    check_truth,
    has_annotations,
    manifest_rows,
    read_model,
)
from wsi_kd.steps.split import read_splits
from wsi_kd.steps.status import read_status

NO_ANNOTATION = "the manifest names no annotation, so no tile has a label"
NO_POSITIVE_TILE = "no tile of a test slide is labeled positive"


class _FeatureFacts(NamedTuple):
    """What one pass over the feature files leaves: a mean each, and how many test tiles have a label."""

    slides: SlideVectors
    """Those with a label."""
    names: list[str]
    scanners: dict[str, str]
    labeled_tiles: int
    positive_tiles: int


class _Measured(NamedTuple):
    """Every recipe: what comparisons need, and what the file holds."""

    selected: dict[str, MeasuredRecipe]
    records: dict[str, RecipeMetrics]


def run_evaluate(
    manifest: Manifest,
    *,
    features_dir: Path,
    splits_path: Path,
    status_path: Path,
    prediction_dirs: Sequence[Path],
    out_dir: Path,
    settings: Settings,
) -> Metrics:
    """Write `metrics.json` (structure: wsi_kd.evaluation.schema) and `predictions.csv`; return the metrics.

    Args:
        manifest: every slide and the classes.
        features_dir: for the baselines.
        splits_path: who was trained on, selected on, tested on.
        status_path: the final status of every slide.
        prediction_dirs: folders of the predict step, one a recipe, seed and fold.
        out_dir: where to write.
        settings: section `evaluate` is used.

    Raises:
        BadInput: predictions that are missing, damaged, given twice, or of other classes, labels or cases.
    """
    folds = read_splits(splits_path).folds
    models = _read_models(prediction_dirs, manifest.classes, folds=folds)
    last = _read_models([folder / LAST_FOLDER for folder in prediction_dirs], manifest.classes, folds=folds)
    check_truth([*models, *last], manifest)
    facts = _feature_facts(manifest, folds, features_dir=features_dir)
    annotated = has_annotations(manifest)
    columns = group_columns(manifest, scanners=facts.scanners, wanted=settings.evaluate.subgroups)
    measured = _measure(models, last, annotated=annotated, columns=columns, settings=settings.evaluate)
    made_with = {"evaluate": settings.evaluate.model_dump(mode="json")}
    metrics: Metrics = {
        **cast("Stamp", stamp("metrics", made_with)),
        "classes": list(manifest.classes),
        "positive_classes": list(manifest.classes[1:]),
        "cohort": describe_cohort(
            manifest,
            statuses=read_status(status_path),
            folds=folds,
            labeled_tiles=facts.labeled_tiles if annotated else 0,
            positive_tiles=facts.positive_tiles,
        ),
        "recipes": measured.records,
        "baselines": _baselines(facts, folds, classes=len(manifest.classes), settings=settings.evaluate),
        "comparisons": compare_recipes(
            measured.selected, baseline=settings.evaluate.baseline, confidence=settings.evaluate.confidence
        ),
        "research_only": RESEARCH_ONLY,
    }
    write_test_predictions(out_dir / "predictions.csv", models, manifest.classes)
    publish_json(out_dir / "metrics.json", metrics)
    return metrics


def _read_models(
    folders: Sequence[Path], classes: Sequence[str], *, folds: Sequence[Fold]
) -> list[ModelPredictions]:
    models = [read_model(folder, classes) for folder in folders]
    check_complete(models)
    check_split(models, folds)
    return models


def _of(models: Sequence[ModelPredictions], recipe: str) -> list[ModelPredictions]:
    return [model for model in models if model.table.header["recipe"] == recipe]


def _measure(
    models: Sequence[ModelPredictions],
    last: Sequence[ModelPredictions],
    *,
    annotated: bool,
    columns: Mapping[str, Mapping[str, str]],
    settings: EvaluateSettings,
) -> _Measured:
    """Measure one recipe after the other; a recipe's tiles are let go before the next one's are read."""
    selected, records = {}, {}
    names = list(dict.fromkeys(model.table.header["recipe"] for model in models))
    with progress("evaluate", total=len(names), unit="recipes") as advance:
        for name in names:
            chosen = _of(models, name)
            selected[name] = measure_recipe(chosen, annotated=annotated, columns=columns, settings=settings)
            final = summarize_recipe(_of(last, name), annotated=annotated, settings=settings)
            records[name] = _recipe_metrics(chosen, selected[name], last=final, annotated=annotated)
            advance(note=name)
    return _Measured(selected, records)


def _recipe_metrics(
    models: Sequence[ModelPredictions], selected: MeasuredRecipe, *, last: LastMeasured, annotated: bool
) -> RecipeMetrics:
    without = NO_POSITIVE_TILE if annotated else NO_ANNOTATION
    return {
        "scores": {name: found.metrics for name, found in selected.slides.items()},
        "instances": {name: found.metrics for name, found in selected.tiles.items()},
        "instances_reason": "" if selected.tiles else without,
        "models": [_model_record(model) for model in models],
        "last": last,
    }


def _model_record(model: ModelPredictions) -> ModelRecord:
    header = model.table.header
    return {
        "seed": header["seed"],
        "fold": header["fold"],
        "epoch": header["epoch"],
        "thresholds": header["thresholds"],
        "threshold_rule": header["threshold_rule"],
        "threshold_split": header["threshold_split"],
        "student_pooling": header["student_pooling"],
        "top_k": header["top_k"],
        "weights_sha256": header["weights_sha256"],
    }


def _baselines(
    facts: _FeatureFacts, folds: Sequence[Fold], *, classes: int, settings: EvaluateSettings
) -> dict[str, ScoreSummary]:
    vectors = {"bag_mean": facts.slides}
    columns = color_columns(facts.names)
    if columns is not None:
        vectors["mean_color"] = facts.slides._replace(vectors=facts.slides.vectors[:, columns])
    known = [
        Fold(*(tuple(slide for slide in part if slide in facts.slides.slide_ids) for part in fold))
        for fold in folds
    ]
    return {
        name: summarize_slides(
            baseline_scores(chosen, known, classes=classes),
            samples=settings.bootstrap_samples,
            confidence=settings.confidence,
            seed=settings.seed,
        )
        for name, chosen in vectors.items()
    }


def _feature_facts(manifest: Manifest, folds: Sequence[Fold], *, features_dir: Path) -> _FeatureFacts:
    """Read one feature file at a time; tiles of negative slides are negative, annotated or not."""
    rows = manifest_rows(manifest, sorted({slide_id for fold in folds for part in fold for slide_id in part}))
    tested = {slide_id for fold in folds for slide_id in fold.test}
    means: list[np.ndarray] = []
    names: list[str] = []
    scanners: dict[str, str] = {}
    labeled = positive = 0
    with progress("evaluate", total=len(rows), unit="slides") as advance:
        for row in rows:
            file = read_features(features_dir / f"{row.slide_id}.h5")
            means.append(slide_vector(file.features))
            names = list(file.header.get("feature_names", []))
            scanners[row.slide_id] = scanner_of(file.header)
            if row.slide_id in tested and row.label:
                negative = row.label == manifest.classes[0]
                labeled += len(file.tile_labels) if negative else int((file.tile_labels >= 0).sum())
                positive += 0 if negative else int((file.tile_labels == 1).sum())
            advance()
    slides = _labeled_vectors(rows, means, manifest.classes)
    return _FeatureFacts(slides, names, scanners, labeled, positive)


def _labeled_vectors(
    rows: Sequence[SlideRow], means: Sequence[np.ndarray], classes: Sequence[str]
) -> SlideVectors:
    kept = [index for index, row in enumerate(rows) if row.label]
    return SlideVectors(
        slide_ids=tuple(rows[index].slide_id for index in kept),
        case_ids=tuple(rows[index].case_id for index in kept),
        labels=np.array([classes.index(rows[index].label) for index in kept], dtype=np.int64),
        vectors=np.stack([means[index] for index in kept]),
    )

"""Step evaluate: predictions of every recipe, seed and fold -> metrics.json and one table of predictions."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from wsi_kd.bags.manifest import Manifest
from wsi_kd.bags.splits import Fold
from wsi_kd.core.files import publish_json, publish_table
from wsi_kd.core.provenance import RESEARCH_ONLY, stamp
from wsi_kd.evaluation.against_baseline import MeasuredRecipe, compare_recipes
from wsi_kd.evaluation.baselines import SlideVectors, baseline_scores, color_columns, slide_vector
from wsi_kd.evaluation.cohort import describe_cohort
from wsi_kd.evaluation.localization import CONVENTIONS, measure_tiles
from wsi_kd.evaluation.schema import (
    Measured,
    Metrics,
    ModelRecord,
    RecipeMetrics,
    ScoreMetrics,
    Stamp,
)
from wsi_kd.evaluation.slide_metrics import SlideMeasurement, SlideScores, measure_slides
from wsi_kd.features.store import read_features
from wsi_kd.inference.predict import SLIDE_SCORES
from wsi_kd.inference.tables import prediction_cells, prediction_columns
from wsi_kd.settings.all import Settings
from wsi_kd.settings.results import EvaluateSettings
from wsi_kd.steps.scored_models import (
    LAST_FOLDER,
    ModelPredictions,
    check_complete,
    check_split,
    has_annotations,
    manifest_rows,
    read_model,
    read_tiles,
    slide_scores,
    tile_scores,
)
from wsi_kd.steps.split import read_splits
from wsi_kd.steps.status import read_status


class _FeatureFacts(NamedTuple):
    """What one pass over the feature files leaves: a mean each, and how many test tiles have a label."""

    slides: SlideVectors
    names: list[str]
    labeled_tiles: int
    positive_tiles: int


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
        BadInput: predictions that are missing, damaged, of other classes, or given twice.
    """
    folds = read_splits(splits_path).folds
    models = _read_models(prediction_dirs, manifest.classes, folds=folds)
    last = _read_models([folder / LAST_FOLDER for folder in prediction_dirs], manifest.classes, folds=folds)
    facts = _feature_facts(manifest, folds, features_dir=features_dir)
    annotated = has_annotations(manifest)
    recipes = list(dict.fromkeys(model.table.header["recipe"] for model in models))
    selected, final = (
        {
            name: _measure(_of(scored, name), annotated=annotated, settings=settings.evaluate)
            for name in recipes
        }
        for scored in (models, last)
    )
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
        "recipes": {
            recipe: _recipe_metrics(_of(models, recipe), measured, last=final[recipe])
            for recipe, measured in selected.items()
        },
        "baselines": _baselines(facts, folds, classes=len(manifest.classes), settings=settings.evaluate),
        "comparisons": compare_recipes(
            selected, baseline=settings.evaluate.baseline, confidence=settings.evaluate.confidence
        ),
        "research_only": RESEARCH_ONLY,
    }
    _write_predictions(out_dir / "predictions.csv", models, manifest.classes)
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
    models: Sequence[ModelPredictions], *, annotated: bool, settings: EvaluateSettings
) -> MeasuredRecipe:
    """Measure one recipe; its tiles are in memory only while this runs, and only where there are labels."""
    with_student = all(row.student_probability is not None for model in models for row in model.test_rows)
    classes = models[0].table.header["classes"]
    scores = SLIDE_SCORES if with_student else SLIDE_SCORES[:1]
    tiles = [read_tiles(model) for model in models] if annotated else []
    tile_names = CONVENTIONS if any(kept.labels.any() for kept in tiles) else ()
    return MeasuredRecipe(
        slides={
            name: _measure_slides([slide_scores(model, name, classes) for model in models], settings)
            for name in scores
        },
        tiles={
            name: measure_tiles(
                [tile_scores(model, kept, name) for model, kept in zip(models, tiles, strict=True)],
                convention=CONVENTIONS[name],
                samples=settings.bootstrap_samples,
                confidence=settings.confidence,
                seed=settings.seed,
            )
            for name in tile_names
            if all(name in kept.scores for kept in tiles)
        },
    )


def _recipe_metrics(
    models: Sequence[ModelPredictions], selected: MeasuredRecipe, *, last: MeasuredRecipe
) -> RecipeMetrics:
    return {
        "models": [_model_record(model) for model in models],
        **_records(selected),
        "last": _records(last),
    }


def _records(measured: MeasuredRecipe) -> Measured:
    return {
        "scores": {name: found.metrics for name, found in measured.slides.items()},
        "instances": {name: found.metrics for name, found in measured.tiles.items()},
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


def _measure_slides(parts: Sequence[SlideScores], settings: EvaluateSettings) -> SlideMeasurement:
    return measure_slides(
        parts, samples=settings.bootstrap_samples, confidence=settings.confidence, seed=settings.seed
    )


def _baselines(
    facts: _FeatureFacts, folds: Sequence[Fold], *, classes: int, settings: EvaluateSettings
) -> dict[str, ScoreMetrics]:
    vectors = {"bag_mean": facts.slides}
    columns = color_columns(facts.names)
    if columns is not None:
        vectors["mean_color"] = facts.slides._replace(vectors=facts.slides.vectors[:, columns])
    return {
        name: _measure_slides(baseline_scores(chosen, folds, classes=classes), settings).metrics
        for name, chosen in vectors.items()
    }


def _feature_facts(manifest: Manifest, folds: Sequence[Fold], *, features_dir: Path) -> _FeatureFacts:
    """Read one feature file at a time; tiles of negative slides are negative, annotated or not."""
    rows = manifest_rows(manifest, sorted({slide_id for fold in folds for part in fold for slide_id in part}))
    tested = {slide_id for fold in folds for slide_id in fold.test}
    means: list[np.ndarray] = []
    names: list[str] = []
    labeled = positive = 0
    for row in rows:
        file = read_features(features_dir / f"{row.slide_id}.h5")
        means.append(slide_vector(file.features))
        names = list(file.header.get("feature_names", []))
        if row.slide_id in tested:
            negative = row.label == manifest.classes[0]
            labeled += len(file.tile_labels) if negative else int((file.tile_labels >= 0).sum())
            positive += 0 if negative else int((file.tile_labels == 1).sum())
    slides = SlideVectors(
        slide_ids=tuple(row.slide_id for row in rows),
        case_ids=tuple(row.case_id for row in rows),
        labels=np.array([manifest.classes.index(row.label) for row in rows], dtype=np.int64),
        vectors=np.stack(means),
    )
    return _FeatureFacts(slides, names, labeled, positive)


def _write_predictions(path: Path, models: Sequence[ModelPredictions], classes: Sequence[str]) -> None:
    """Write the test parts of all models as one table."""
    columns = ("recipe", "seed", "fold", *prediction_columns(classes))
    rows = (
        (
            *(model.table.header[key] for key in ("recipe", "seed", "fold")),
            *prediction_cells(row, classes),
        )
        for model in models
        for row in model.test_rows
    )
    publish_table(path, columns, rows, stamp=stamp("pooled_predictions", {}))

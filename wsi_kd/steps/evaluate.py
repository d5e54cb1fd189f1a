"""Step evaluate: predictions of every recipe, seed and fold -> metrics.json and one table of predictions."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from wsi_kd.bags.manifest import Manifest, SlideRow
from wsi_kd.bags.splits import Fold
from wsi_kd.core.files import publish_json, publish_table
from wsi_kd.core.provenance import RESEARCH_ONLY, stamp
from wsi_kd.evaluation.baselines import SlideVectors, baseline_scores, color_columns
from wsi_kd.evaluation.cohort import describe_cohort
from wsi_kd.evaluation.localization import CONVENTIONS, instance_metrics
from wsi_kd.evaluation.schema import (
    InstanceMetrics,
    Measured,
    Metrics,
    ModelRecord,
    ScoreMetrics,
    Stamp,
)
from wsi_kd.evaluation.slide_metrics import SlideScores, score_metrics
from wsi_kd.features.store import read_features
from wsi_kd.inference.tables import SLIDE_COLUMNS
from wsi_kd.settings.all import Settings
from wsi_kd.settings.results import EvaluateSettings
from wsi_kd.steps.scored_models import (
    LAST_FOLDER,
    LabelsBySlide,
    ModelPredictions,
    check_complete,
    check_split,
    known_tile_labels,
    manifest_rows,
    read_model,
    slide_scores,
    tile_scores,
)
from wsi_kd.steps.split import read_splits
from wsi_kd.steps.status import read_status


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
    recipes = list(dict.fromkeys(model.table.header["recipe"] for model in models))
    labels = known_tile_labels(models, manifest.classes[0])
    made_with = {"evaluate": settings.evaluate.model_dump(mode="json")}
    metrics: Metrics = {
        **cast("Stamp", stamp("metrics", made_with)),
        "classes": list(manifest.classes),
        "positive_classes": list(manifest.classes[1:]),
        "cohort": describe_cohort(
            manifest,
            statuses=read_status(status_path),
            folds=folds,
            labeled_tiles=sum(int((known >= 0).sum()) for known in labels.values()),
            positive_tiles=sum(int((known == 1).sum()) for known in labels.values()),
        ),
        "recipes": {
            recipe: {
                "models": [_model_record(model) for model in _of(models, recipe)],
                **_measured(
                    _of(models, recipe), manifest.classes, tile_labels=labels, settings=settings.evaluate
                ),
                "last": _measured(
                    _of(last, recipe), manifest.classes, tile_labels=labels, settings=settings.evaluate
                ),
            }
            for recipe in recipes
        },
        "baselines": _baselines(manifest, folds, features_dir=features_dir, settings=settings.evaluate),
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


def _measured(
    models: Sequence[ModelPredictions],
    classes: Sequence[str],
    *,
    tile_labels: LabelsBySlide,
    settings: EvaluateSettings,
) -> Measured:
    with_student = all(row.student_probability is not None for model in models for row in model.test_rows)
    scores = ("teacher", "student") if with_student else ("teacher",)
    tile_scores = ("attention", "evidence", "student") if with_student else ("attention", "evidence")
    return {
        "scores": {
            name: _score_metrics([slide_scores(model, name, classes) for model in models], settings)
            for name in scores
        },
        "instances": {
            name: _instance_metrics(models, name, tile_labels=tile_labels, settings=settings)
            for name in tile_scores
            if tile_labels
        },
    }


def _model_record(model: ModelPredictions) -> ModelRecord:
    header = model.table.header
    return {
        "seed": header["seed"],
        "fold": header["fold"],
        "epoch": header["epoch"],
        "thresholds": {score: header["thresholds"].get(score) for score in ("teacher", "student")},
        "threshold_rule": header["threshold_rule"],
        "threshold_split": header["threshold_split"],
        "weights_sha256": header["weights_sha256"],
    }


def _score_metrics(parts: Sequence[SlideScores], settings: EvaluateSettings) -> ScoreMetrics:
    return score_metrics(
        parts, samples=settings.bootstrap_samples, confidence=settings.confidence, seed=settings.seed
    )


def _instance_metrics(
    models: Sequence[ModelPredictions],
    score: str,
    *,
    tile_labels: LabelsBySlide,
    settings: EvaluateSettings,
) -> InstanceMetrics:
    return instance_metrics(
        [tile_scores(model, score, tile_labels) for model in models],
        convention=CONVENTIONS[score],
        samples=settings.bootstrap_samples,
        confidence=settings.confidence,
        seed=settings.seed,
    )


def _baselines(
    manifest: Manifest, folds: Sequence[Fold], *, features_dir: Path, settings: EvaluateSettings
) -> dict[str, ScoreMetrics]:
    rows = manifest_rows(manifest, sorted({slide_id for fold in folds for part in fold for slide_id in part}))
    slides, feature_names = _bag_means(rows, manifest.classes, features_dir=features_dir)
    columns = color_columns(feature_names)
    vectors = {"bag_mean": slides}
    if columns is not None:
        vectors["mean_color"] = slides._replace(vectors=slides.vectors[:, columns])
    classes = len(manifest.classes)
    return {
        name: _score_metrics(baseline_scores(chosen, folds, classes=classes), settings)
        for name, chosen in vectors.items()
    }


def _bag_means(
    rows: Sequence[SlideRow], classes: Sequence[str], *, features_dir: Path
) -> tuple[SlideVectors, list[str]]:
    """Read one feature file at a time and keep its mean."""
    means, names = [], []
    for row in rows:
        file = read_features(features_dir / f"{row.slide_id}.h5")
        means.append(file.features.mean(axis=0, dtype=np.float64))
        names = list(file.header.get("feature_names", []))
    labels = np.array([list(classes).index(row.label) for row in rows], dtype=np.int64)
    slide_ids, case_ids = tuple(row.slide_id for row in rows), tuple(row.case_id for row in rows)
    return SlideVectors(slide_ids, case_ids, labels, np.stack(means)), names


def _write_predictions(path: Path, models: Sequence[ModelPredictions], classes: Sequence[str]) -> None:
    """Write the test parts of all models as one table."""
    columns = ("recipe", "seed", "fold", *SLIDE_COLUMNS, *(f"probability_{name}" for name in classes))
    rows = (
        (
            *(model.table.header[key] for key in ("recipe", "seed", "fold")),
            *("" if value is None else value for value in row[:-1]),
            *row.class_probabilities,
        )
        for model in models
        for row in model.test_rows
    )
    publish_table(path, columns, rows, stamp=stamp("pooled_predictions", {}))

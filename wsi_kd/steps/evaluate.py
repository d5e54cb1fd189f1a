"""Step evaluate: predictions of every recipe, seed and fold -> metrics.json and one table of predictions."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from wsi_kd.bags.manifest import Manifest
from wsi_kd.bags.splits import Fold
from wsi_kd.core.files import publish_json, publish_table
from wsi_kd.core.provenance import RESEARCH_ONLY, stamp
from wsi_kd.evaluation.baselines import SlideVectors, baseline_scores, color_columns
from wsi_kd.evaluation.cohort import describe_cohort
from wsi_kd.evaluation.localization import CONVENTIONS, instance_metrics
from wsi_kd.evaluation.schema import (
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
    recipes = list(dict.fromkeys(model.table.header["recipe"] for model in models))
    facts = _feature_facts(manifest, folds, features_dir=features_dir)
    annotated = has_annotations(manifest)
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
            recipe: {
                "models": [_model_record(model) for model in _of(models, recipe)],
                **_measured(
                    _of(models, recipe), manifest.classes, annotated=annotated, settings=settings.evaluate
                ),
                "last": _measured(
                    _of(last, recipe), manifest.classes, annotated=annotated, settings=settings.evaluate
                ),
            }
            for recipe in recipes
        },
        "baselines": _baselines(facts, folds, classes=len(manifest.classes), settings=settings.evaluate),
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
    annotated: bool,
    settings: EvaluateSettings,
) -> Measured:
    """Measure one recipe; its tiles are in memory only while this runs, and only where there are labels."""
    with_student = all(row.student_probability is not None for model in models for row in model.test_rows)
    scores = ("teacher", "student") if with_student else ("teacher",)
    tile_names = ("attention", "evidence", "student") if with_student else ("attention", "evidence")
    tiles = [read_tiles(model) for model in models] if annotated else []
    return {
        "scores": {
            name: _score_metrics([slide_scores(model, name, classes) for model in models], settings)
            for name in scores
        },
        "instances": {
            name: instance_metrics(
                [tile_scores(model, kept, name) for model, kept in zip(models, tiles, strict=True)],
                convention=CONVENTIONS[name],
                samples=settings.bootstrap_samples,
                confidence=settings.confidence,
                seed=settings.seed,
            )
            for name in tile_names
            if any(kept.labels.any() for kept in tiles)
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


def _baselines(
    facts: _FeatureFacts, folds: Sequence[Fold], *, classes: int, settings: EvaluateSettings
) -> dict[str, ScoreMetrics]:
    vectors = {"bag_mean": facts.slides}
    columns = color_columns(facts.names)
    if columns is not None:
        vectors["mean_color"] = facts.slides._replace(vectors=facts.slides.vectors[:, columns])
    return {
        name: _score_metrics(baseline_scores(chosen, folds, classes=classes), settings)
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
        means.append(file.features.mean(axis=0, dtype=np.float64))
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

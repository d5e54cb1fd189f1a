"""Sections of charts: ROC curves, training histories, the scores of each class."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from wsi_kd.inference.tables import PredictionRow
from wsi_kd.report.curves import ScoredSlides, roc_band
from wsi_kd.report.figures import (
    RocCurve,
    ScoreGroup,
    TrainingRun,
    histogram_chart,
    roc_chart,
    training_chart,
)
from wsi_kd.report.page import Block, Chart, Note, Section
from wsi_kd.report.record import RECIPE_NAMES, ModelRun, RunRecord, model_name

SCORES = ("teacher", "student")
PANELS = {
    "train_teacher_loss": "teacher: training loss",
    "val_teacher_loss": "teacher: validation loss",
    "val_teacher_auc": "teacher: validation AUC",
    "train_student_loss": "student: training loss",
    "val_student_loss": "student: validation loss",
    "val_student_auc": "student: validation AUC",
    "val_instance_loss": "student: validation loss on bag labels",
}


def roc_section(record: RunRecord) -> Section:
    """Build the ROC curves of every recipe's scores, with the intervals' resamples as bands."""
    evaluate = record.metrics["settings"]["evaluate"]
    curves = list(_roc_curves(record, evaluate))
    if not curves:
        note = Note("No ROC curve: the test slides do not hold both classes.")
        return Section("roc", "ROC curves", (note,))
    caption = (
        "Test slides of all folds, mean over seeds; bands: "
        f"{evaluate['confidence']:.0%} of the curves of resampled patients."
    )
    svg = roc_chart("roc", curves, confidence=evaluate["confidence"])
    return Section("roc", "ROC curves", (Chart(svg, caption),))


def score_section(record: RunRecord) -> Section:
    """Build a histogram of each score by true label, the first seed's models."""
    blocks: list[Block] = []
    for recipe, models in _by_recipe(record.models):
        first = [model for model in models if model.seed == models[0].seed]
        rows = [row for model in first for row in model.test]
        for score in SCORES:
            scored = [row for row in rows if score_of(row, score) is not None]
            if scored:
                name = f"scores-{len(blocks)}"
                svg = _histogram(name, scored, score=score, classes=record.metrics["classes"])
                blocks.append(Chart(svg, f"{model_name(recipe, score)}, seed {models[0].seed}, test slides."))
    return Section("scores", "Scores by true label", tuple(blocks) or (Note("No slide was scored."),))


def training_section(models: Sequence[ModelRun]) -> Section:
    """Build the training curves of every recipe and seed; models that never improved are counted."""
    blocks: list[Block] = []
    stuck = sum(run.selected_epoch == 0 for run in models)
    if stuck:
        text = (
            f"Read with care: {stuck} of {len(models)} models were kept at their first epoch: none after it "
        )
        blocks.append(Note(f"{text}had a lower validation loss.", caution=True))
    for recipe, runs in _by_recipe(models):
        for seed in sorted({run.seed for run in runs}):
            chosen = [run for run in runs if run.seed == seed]
            present = {
                key: heading for key, heading in PANELS.items() if any(_shown(run, key) for run in chosen)
            }
            lines = [TrainingRun(run.fold, run.history, run.selected_epoch) for run in chosen]
            for part in SCORES:
                panels = {key: heading for key, heading in present.items() if part in key}
                if panels:
                    svg = training_chart(f"training-{len(blocks)}", lines, panels=panels)
                    caption = (
                        f"{RECIPE_NAMES.get(recipe, recipe)}, seed {seed}: {part}. Dots: the epoch kept."
                    )
                    blocks.append(Chart(svg, caption, folded=seed != runs[0].seed))
    return Section("training", "Training", tuple(blocks) or (Note("No training history was found."),))


def score_of(row: PredictionRow, score: str) -> float | None:
    """Return a slide's positive probability by teacher or student."""
    return row.teacher_probability if score == "teacher" else row.student_probability


def threshold_of(row: PredictionRow, score: str) -> float:
    """Return the threshold that goes with `score_of`; without one, 0.5."""
    threshold = row.threshold_teacher if score == "teacher" else row.threshold_student
    return 0.5 if threshold is None else threshold


def _roc_curves(record: RunRecord, evaluate: dict[str, Any]) -> Iterator[RocCurve]:
    negative = record.metrics["classes"][0]
    for recipe, models in _by_recipe(record.models):
        for score in SCORES:
            seeds = sorted({model.seed for model in models})
            parts = [_scored(models, seed=seed, score=score, negative=negative) for seed in seeds]
            if any(not part.case_ids for part in parts):
                continue
            band = roc_band(
                parts,
                samples=evaluate["bootstrap_samples"],
                confidence=evaluate["confidence"],
                seed=evaluate["seed"],
            )
            if band is not None:
                yield RocCurve(model_name(recipe, score), band)


def _scored(models: Sequence[ModelRun], *, seed: int, score: str, negative: str) -> ScoredSlides:
    rows = [row for model in models if model.seed == seed for row in model.test]
    found = [(row, value) for row in rows if (value := score_of(row, score)) is not None]
    return ScoredSlides(
        case_ids=tuple(row.case_id for row, _ in found),
        labels=np.array([row.label != negative for row, _ in found], dtype=bool),
        scores=np.array([value for _, value in found], dtype=np.float64),
    )


def _histogram(name: str, rows: Sequence[PredictionRow], *, score: str, classes: Sequence[str]) -> str:
    groups = [
        ScoreGroup(
            label, np.array([score_of(row, score) for row in rows if row.label == label], dtype=np.float64)
        )
        for label in classes
    ]
    thresholds = [threshold_of(row, score) for row in rows]
    return histogram_chart(name, groups, score=f"{score} probability", thresholds=thresholds)


def _by_recipe(models: Sequence[ModelRun]) -> Iterator[tuple[str, list[ModelRun]]]:
    for recipe in dict.fromkeys(model.recipe for model in models):
        yield recipe, [model for model in models if model.recipe == recipe]


def _shown(run: ModelRun, column: str) -> bool:
    values = run.history.get(column)
    return values is not None and bool(np.isfinite(values).any())

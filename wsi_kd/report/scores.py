"""Sections of charts that are drawn slide by slide and epoch by epoch: histograms, training histories."""

from collections.abc import Iterator, Sequence

import numpy as np

from wsi_kd.inference.tables import PredictionRow
from wsi_kd.report.figures import ScoreGroup, TrainingRun, histogram_chart, training_chart
from wsi_kd.report.gallery_choice import score_of, threshold_of
from wsi_kd.report.named_scores import CURVE_SCORES
from wsi_kd.report.page import Block, Chart, Note, Section
from wsi_kd.report.record import RECIPE_NAMES, ModelRun, RunRecord, model_name

PANELS = {
    "train_teacher_loss": "teacher: training loss",
    "val_teacher_loss": "teacher: validation loss",
    "val_teacher_auc": "teacher: validation AUC",
    "train_student_loss": "student: training loss",
    "val_student_loss": "student: validation loss",
    "val_student_auc": "student: validation AUC",
    "val_instance_loss": "student: validation loss on bag labels",
}
NO_LABEL = "no label"


def score_section(record: RunRecord) -> Section:
    """Build a histogram of each score by true label, the first seed's models."""
    blocks: list[Block] = []
    for recipe, models in _by_recipe(record.models):
        first = [model for model in models if model.seed == models[0].seed]
        rows = [row for model in first for row in model.test]
        for score in CURVE_SCORES:
            scored = [row for row in rows if score_of(row, score) is not None]
            name = model_name(recipe, score)
            if scored:
                svg = _histogram(
                    f"scores-{len(blocks)}", scored, score=score, classes=record.metrics["classes"]
                )
                blocks.append(Chart(svg, f"{name}, seed {models[0].seed}, test slides."))
            lost = _not_finite(rows, score)
            if lost:
                text = f"Read with care: {lost:,} of {len(rows):,} slides have no finite score by {name}."
                blocks.append(Note(text, caution=True))
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
            for part in CURVE_SCORES:
                panels = {key: heading for key, heading in present.items() if part in key}
                if panels:
                    svg = training_chart(f"training-{len(blocks)}", lines, panels=panels)
                    caption = (
                        f"{RECIPE_NAMES.get(recipe, recipe)}, seed {seed}: {part}. Dots: the epoch kept."
                    )
                    blocks.append(Chart(svg, caption, folded=seed != runs[0].seed))
    return Section("training", "Training", tuple(blocks) or (Note("No training history was found."),))


def _not_finite(rows: Sequence[PredictionRow], score: str) -> int:
    """Count slides that should have a score and have none that is a number."""
    expected = [row for row in rows if score == "teacher" or row.student_probability is not None]
    return sum(score_of(row, score) is None for row in expected)


def _histogram(name: str, rows: Sequence[PredictionRow], *, score: str, classes: Sequence[str]) -> str:
    labels = {**{label: label for label in classes}, "": NO_LABEL}
    groups = [
        ScoreGroup(
            shown, np.array([score_of(row, score) for row in rows if row.label == label], dtype=np.float64)
        )
        for label, shown in labels.items()
        if label or any(not row.label for row in rows)
    ]
    thresholds = [threshold_of(row, score) for row in rows]
    return histogram_chart(name, groups, score=f"{score} probability", thresholds=thresholds)


def _by_recipe(models: Sequence[ModelRun]) -> Iterator[tuple[str, list[ModelRun]]]:
    for recipe in dict.fromkeys(model.recipe for model in models):
        yield recipe, [model for model in models if model.recipe == recipe]


def _shown(run: ModelRun, column: str) -> bool:
    values = run.history.get(column)
    return values is not None and bool(np.isfinite(values).any())

"""Which slides the gallery shows: those a model was surest of, right and wrong."""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from wsi_kd.inference.tables import PredictionRow
from wsi_kd.report.record import ModelRun

ChosenKey: TypeAlias = tuple[str, int, int, str]


class Chosen(NamedTuple):
    """One slide of the gallery and the model that tested it."""

    model: ModelRun
    row: PredictionRow
    score: str
    """teacher or student: the score that its confidence was judged by."""
    right: bool | None
    """None where the slide has no label."""

    @property
    def key(self) -> ChosenKey:
        """Recipe, seed and fold of the model, and the slide."""
        return (*self.model.key, self.row.slide_id)


def choose_slides(models: Sequence[ModelRun], *, count: int, negative: str) -> list[Chosen]:
    """Choose `count` slides to show: half the surest right, half the surest wrong, of one recipe and seed.

    The recipe is the last one trained with a student, else the last one. Where one kind is short, the other
    fills up; where no slide has a label, the surest are taken. Sureness is the distance from the threshold,
    as a share of the way to 0 or 1; a score that is not finite has none.
    """
    if not models:
        return []
    with_student = [model for model in models if _has_student(model)]
    recipe = (with_student or list(models))[-1].recipe
    seed = min(model.seed for model in models if model.recipe == recipe)
    score = "student" if with_student else "teacher"
    chosen = [
        Chosen(model, row, score, right=is_right(row, score, negative))
        for model in models
        if (model.recipe, model.seed) == (recipe, seed)
        for row in model.test
        if score_of(row, score) is not None
    ]
    ordered = sorted(chosen, key=lambda one: (-sureness(one.row, score), one.row.slide_id))
    right, wrong, unlabeled = ([one for one in ordered if one.right is kind] for kind in (True, False, None))
    if not right and not wrong:
        return unlabeled[:count]
    wrong_count = max(min(len(wrong), count // 2), count - len(right))
    return right[: count - min(wrong_count, len(wrong))] + wrong[:wrong_count]


def score_of(row: PredictionRow, score: str) -> float | None:
    """Return a slide's positive probability by teacher or student; None where it is not a finite number."""
    value = row.teacher_probability if score == "teacher" else row.student_probability
    return value if value is not None and math.isfinite(value) else None


def threshold_of(row: PredictionRow, score: str) -> float:
    """Return the threshold that goes with `score_of`; without one, 0.5."""
    threshold = row.threshold_teacher if score == "teacher" else row.threshold_student
    return 0.5 if threshold is None else threshold


def _has_student(model: ModelRun) -> bool:
    return any(row.student_probability is not None for row in model.test)


def is_right(row: PredictionRow, score: str, negative: str) -> bool | None:
    """Tell whether the call by a score fits the label; None without one."""
    if not row.label:
        return None
    return (row.label != negative) == ((score_of(row, score) or 0.0) >= threshold_of(row, score))


def sureness(row: PredictionRow, score: str) -> float:
    """Return the distance from the threshold as a share of the way to 0 or 1."""
    probability, threshold = score_of(row, score) or 0.0, threshold_of(row, score)
    room = 1.0 - threshold if probability >= threshold else threshold
    return abs(probability - threshold) / room if room > 0 else 0.0

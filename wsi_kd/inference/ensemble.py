"""Several models of one kind as one: the mean of what they say, and how far they disagree."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wsi_kd.core.errors import BadInput
from wsi_kd.inference.slide_prediction import SlidePrediction, StudentPrediction, slide_scores


class Spread(NamedTuple):
    """Of one slide score over the models: probability of any class but the first."""

    sd: float
    """Standard deviation with n - 1 below."""
    low: float
    high: float


class EnsemblePrediction(NamedTuple):
    """What the models say together."""

    mean: SlidePrediction
    spread: dict[str, Spread]
    """By slide score: teacher, student, student_max, student_topk."""


def combine(predictions: Sequence[SlidePrediction]) -> EnsemblePrediction:
    """Average probabilities, of the slide and of every tile, over models that saw the same tiles.

    The attention is the mean of the models' softmaxes, and still sums to 1; its logits are the logarithm of
    that mean. Probabilities are averaged, not logits: the mean is then that of a mixture of the models.

    Raises:
        BadInput: fewer than two, or models with and without student.
    """
    if len(predictions) < 2:  # noqa: PLR2004 - one model has no spread
        raise BadInput(f"an ensemble has at least two models, got {len(predictions)}")
    students = [prediction.student for prediction in predictions if prediction.student is not None]
    if len(students) not in {0, len(predictions)}:
        raise BadInput("an ensemble's models have a student all or none; give models of one recipe")
    branches = [one.branch_attention for one in predictions if one.branch_attention is not None]
    attention = _mean([one.attention for one in predictions])
    mean = SlidePrediction(
        teacher_probability=_mean([one.teacher_probability for one in predictions]),
        student=_mean_student(students) if students else None,
        attention=attention,
        attention_logits=np.log(np.maximum(attention, np.finfo(np.float64).tiny)),
        branch_attention=_mean(branches) if len(branches) == len(predictions) else None,
        evidence=_mean([one.evidence for one in predictions]),
        feature_distance=float(np.mean([one.feature_distance for one in predictions])),
    )
    scores = [slide_scores(prediction) for prediction in predictions]
    spread = {name: _spread([found[name] for found in scores]) for name in scores[0]}
    return EnsemblePrediction(mean, spread)


def _mean_student(students: Sequence[StudentPrediction]) -> StudentPrediction:
    return StudentPrediction(*(_mean(parts) for parts in zip(*students, strict=True)))


def _mean(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(np.mean(np.stack(arrays), axis=0))


def _spread(values: Sequence[float]) -> Spread:
    return Spread(float(np.std(values, ddof=1)), min(values), max(values))

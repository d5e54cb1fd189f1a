"""What a model says of one slide, as numbers: read where tables and pages are made, without torch."""

from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float64

from wsi_kd.inference.calls import positive_probability

ClassProbabilities: TypeAlias = Float64[np.ndarray, "classes"]
TileScores: TypeAlias = Float64[np.ndarray, "tiles"]
TileClassScores: TypeAlias = Float64[np.ndarray, "tiles positives"]
"""Column c - 1 is class c: the negative class has none."""

POOLINGS = ("max", "topk")
SLIDE_SCORES = ("teacher", "student", "student_max", "student_topk")
"""The slide scores of a model; `student` is by the pooling that is deployed, one of the other two."""


class StudentPrediction(NamedTuple):
    """What the student says of one slide: softmax of (0, s_1, ..., s_C-1), s_c its pooled logit of class c.

    Two classes: sigmoid(s_1).
    """

    by_max: ClassProbabilities
    """s_c is the largest tile logit."""
    by_topk: ClassProbabilities
    """s_c is the mean of the `top_k` largest tile logits."""
    deployed: ClassProbabilities
    """The one of the two that the model's settings chose."""
    tiles: TileClassScores
    """Sigmoid of the logits of each tile: class c against all others, so a row need not sum to 1."""


class SlidePrediction(NamedTuple):
    """What a model says of one slide; every array is float64."""

    teacher_probability: ClassProbabilities
    """Softmax of the teacher's bag logits."""
    student: StudentPrediction | None
    """None for a model without student."""
    attention: TileScores
    """Softmax of the attention logits over the slide's tiles: sums to 1, comparable within it only. Of a
    teacher with a branch a class: that of the class it predicts (of two classes, always the positive one)."""
    attention_logits: TileScores
    """Attention before the softmax."""
    branch_attention: Float64[np.ndarray, "tiles classes"] | None
    """Attention of each class's own branch; None where the teacher has none."""
    evidence: TileClassScores
    """The teacher's bag classifier applied to each tile alone: softmax of the evidence, positive classes."""
    feature_distance: float
    """How unlike the training tiles: the median over tiles of their distance from the training part's
    (`FeatureSpread`), by their features, or by their colors where those are pixels. About 1 for slides like
    those of the training."""

    @property
    def student_probability(self) -> float | None:
        """The student's probability of any class but the first, by the deployed pooling."""
        return None if self.student is None else positive_probability(self.student.deployed)


class SlideLogits(NamedTuple):
    """What a model says of one slide before any softmax; float64."""

    teacher: Float64[np.ndarray, "classes"]
    """Bag logits."""
    student: Float64[np.ndarray, "positives"] | None
    """Tile logits pooled as deployed, class c in place c - 1; None for a model without student."""


def slide_scores(prediction: SlidePrediction) -> dict[str, float]:
    """Return each of `SLIDE_SCORES` that the model has: the probability of any class but the first."""
    student = prediction.student
    by_student = () if student is None else (student.deployed, student.by_max, student.by_topk)
    found = (prediction.teacher_probability, *by_student)
    return {score: positive_probability(values) for score, values in zip(SLIDE_SCORES, found, strict=False)}

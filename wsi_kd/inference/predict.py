"""The one scoring function: the workflow, evaluate, the heatmaps and `infer` all call `predict_bag`.

Products run in float32 in eval mode, whatever mode the model was left in; softmax and sigmoid then run once,
in float64, so that equal features give equal numbers wherever they are asked for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, unknown_name
from wsi_kd.core.shapes import FeatureArray
from wsi_kd.inference.calls import positive_probability
from wsi_kd.mil.weno import TeacherStudent

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
    """How unlike the training tiles: the median over tiles of the root mean square z-score of the features,
    by the training part's moments; of pixels, of each tile's colors. About 1 for slides like those of the
    training."""

    @property
    def student_probability(self) -> float | None:
        """The student's probability of any class but the first, by the deployed pooling."""
        return None if self.student is None else positive_probability(self.student.deployed)


def predict_bag(
    model: TeacherStudent,
    features: FeatureArray,
    *,
    student_pooling: str,
    top_k: int,
    device: torch.device | str,
) -> SlidePrediction:
    """Score one slide of `features` (tiles, features); `model` stands on `device` and keeps its mode.

    The student's slide logit is, class by class, the mean of its `top_k` largest tile logits (of all, where
    the slide has fewer), or the largest one (`max`); `student_pooling` says which is deployed.

    Raises:
        BadInput: no tiles, a feature that is not finite, an unknown pooling.
    """
    _check_features(features)
    if student_pooling not in POOLINGS:
        raise unknown_name("student_pooling", student_pooling, POOLINGS)
    instances = _instances(features).to(device)
    offsets = torch.tensor([0, len(features)], dtype=torch.int64, device=device)
    with evaluating(model), torch.inference_mode():
        output = model(instances, offsets)
        distances = model.distances(instances)
    attention_logits = _float64(output.attention_logits)
    branches, student = (
        None if logits is None else _float64(logits)
        for logits in (output.branch_logits, output.instance_logits)
    )
    return SlidePrediction(
        teacher_probability=_softmax(_float64(output.bag_logits)[0]),
        student=None if student is None else _pooled(student, student_pooling=student_pooling, top_k=top_k),
        attention=_softmax(attention_logits),
        attention_logits=attention_logits,
        branch_attention=None if branches is None else np.ascontiguousarray(_softmax(branches.T).T),
        evidence=_softmax(_float64(output.evidence))[:, 1:],
        feature_distance=float(distances.median()),
    )


def slide_scores(prediction: SlidePrediction) -> dict[str, float]:
    """Return each of `SLIDE_SCORES` that the model has: the probability of any class but the first."""
    student = prediction.student
    by_student = () if student is None else (student.deployed, student.by_max, student.by_topk)
    found = (prediction.teacher_probability, *by_student)
    return {score: positive_probability(values) for score, values in zip(SLIDE_SCORES, found, strict=False)}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch every module to eval mode and give each its own former mode back, errors included."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _check_features(features: FeatureArray) -> None:
    if len(features) == 0:
        raise BadInput("a slide without tiles cannot be scored; expected at least one row of features")
    if not np.isfinite(features).all():
        raise BadInput("the features hold NaN or infinite values; embed the slide again")


def _instances(features: FeatureArray) -> Tensor:
    pixels = features.dtype == np.uint8
    return torch.from_numpy(np.ascontiguousarray(features, dtype=np.uint8 if pixels else np.float32))


def _pooled(logits: TileClassScores, *, student_pooling: str, top_k: int) -> StudentPrediction:
    ascending = np.sort(logits, axis=0)
    by_max, by_topk = (
        _softmax(np.concatenate([[0.0], ascending[-kept:].mean(axis=0)]))
        for kept in (1, min(top_k, len(logits)))
    )
    deployed = by_max if student_pooling == "max" else by_topk
    return StudentPrediction(by_max, by_topk, deployed, _sigmoid(logits))


def _float64(logits: Tensor) -> np.ndarray:
    return logits.detach().to("cpu", torch.float64).numpy()


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)))

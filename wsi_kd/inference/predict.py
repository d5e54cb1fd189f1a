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

from wsi_kd.core.errors import BadInput
from wsi_kd.core.shapes import FeatureArray
from wsi_kd.mil.weno import TeacherStudent

ClassProbabilities: TypeAlias = Float64[np.ndarray, "classes"]
TileScores: TypeAlias = Float64[np.ndarray, "tiles"]


class SlidePrediction(NamedTuple):
    """What a model says of one slide; every array is float64."""

    teacher_probability: ClassProbabilities
    """Softmax of the teacher's bag logits."""
    student_probability: float | None
    """Sigmoid of the pooled student logits: positive against negative; None for a model without student."""
    attention: TileScores
    """Softmax of the attention logits over the slide's tiles: sums to 1, comparable within it only."""
    attention_logits: TileScores
    """Attention before the softmax."""
    evidence: TileScores
    """The teacher's bag classifier applied to each tile alone: 1 - probability of the negative class."""
    student_tile_probability: TileScores | None
    """Sigmoid of the student's logit per tile; None for a model without student."""
    feature_distance: float
    """How unlike the training tiles: the median over tiles of the root mean square z-score of the features,
    by the training part's moments. About 1 for slides like those of the training."""


def predict_bag(
    model: TeacherStudent,
    features: FeatureArray,
    *,
    student_pooling: str,
    top_k: int,
    device: torch.device | str,
) -> SlidePrediction:
    """Score one slide of `features` (tiles, features); `model` stands on `device` and keeps its mode.

    The student's slide score is the sigmoid of the mean of its `top_k` largest tile logits (all, where the
    slide has fewer), or of the largest one (`max`).

    Raises:
        BadInput: no tiles, a feature that is not finite, an unknown pooling.
    """
    _check_features(features)
    instances = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32)).to(device)
    offsets = torch.tensor([0, len(features)], dtype=torch.int64, device=device)
    with evaluating(model), torch.inference_mode():
        output = model(instances, offsets)
        distances = model.scaling(instances).square().mean(dim=1).sqrt()
    attention_logits = _float64(output.attention_logits)
    student = None if output.instance_logits is None else _float64(output.instance_logits)
    return SlidePrediction(
        teacher_probability=_softmax(_float64(output.bag_logits)[0]),
        student_probability=None if student is None else _pooled_probability(student, student_pooling, top_k),
        attention=_softmax(attention_logits),
        attention_logits=attention_logits,
        evidence=1.0 - _softmax(_float64(output.evidence))[:, 0],
        student_tile_probability=None if student is None else _sigmoid(student),
        feature_distance=float(distances.median()),
    )


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


def _pooled_probability(logits: TileScores, student_pooling: str, top_k: int) -> float:
    if student_pooling not in {"max", "topk"}:
        raise BadInput(f"unknown student_pooling '{student_pooling}'; known: max, topk")
    kept = 1 if student_pooling == "max" else min(top_k, len(logits))
    return float(_sigmoid(np.sort(logits)[-kept:].mean(keepdims=True))[0])


def _float64(logits: Tensor) -> np.ndarray:
    return logits.detach().to("cpu", torch.float64).numpy()


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)))

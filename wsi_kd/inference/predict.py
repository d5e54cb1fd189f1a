"""The one scoring function: the workflow, evaluate, the heatmaps and `infer` all call `predict_bag`.

Products run in float32 in eval mode, whatever mode the model was left in; softmax and sigmoid then run once,
in float64, so that equal features give equal numbers wherever they are asked for.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, unknown_name
from wsi_kd.core.shapes import FeatureArray
from wsi_kd.inference.slide_prediction import (
    POOLINGS,
    SlidePrediction,
    StudentPrediction,
    TileClassScores,
)
from wsi_kd.mil.weno import TeacherStudent


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

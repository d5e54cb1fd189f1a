"""The one scoring function: the workflow, evaluate, the heatmaps and `infer` all call `predict_bag`.

Products run in float32 in eval mode, whatever mode the model was left in; softmax and sigmoid then run once,
in float64, so that equal features give equal numbers wherever they are asked for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, unknown_name
from wsi_kd.core.shapes import FeatureArray
from wsi_kd.inference.slide_prediction import (
    POOLINGS,
    SlideLogits,
    SlidePrediction,
    StudentPrediction,
    TileClassScores,
)
from wsi_kd.mil.abmil import Abmil, GatedAbmil
from wsi_kd.mil.pooling import attention_pool
from wsi_kd.mil.weno import TeacherStudent, TeacherStudentOutput

READ_ALONE: Final = frozenset({Abmil, GatedAbmil})
"""Teachers that pool what they read of each instance by itself."""
TILES_AT_ONCE: Final = 4_096
"""Tiles that these read at a time: products stay as fast, and what is held as small, whatever the slide."""


class _Scored(NamedTuple):
    """What a model says of a bag."""

    output: TeacherStudentOutput
    distances: Float[Tensor, "instances"]


class _Block(NamedTuple):
    """What is read of some instances of a bag."""

    attention_logits: Float[Tensor, "instances"]
    evidence: Float[Tensor, "instances classes"]
    instance_logits: Float[Tensor, "instances positives"] | None
    distances: Float[Tensor, "instances"]


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
    output, distances = _checked_and_scored(model, features, student_pooling, device=device)
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


def slide_logits(
    model: TeacherStudent,
    features: FeatureArray,
    *,
    student_pooling: str,
    top_k: int,
    device: torch.device | str,
) -> SlideLogits:
    """Return the logits of which `predict_bag` gives the probabilities; its arguments and errors."""
    output, _ = _checked_and_scored(model, features, student_pooling, device=device)
    student = None
    if output.instance_logits is not None:
        kept = 1 if student_pooling == "max" else top_k
        student = _mean_of_largest(_float64(output.instance_logits), kept)
    return SlideLogits(_float64(output.bag_logits)[0], student)


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


def _checked_and_scored(
    model: TeacherStudent, features: FeatureArray, student_pooling: str, *, device: torch.device | str
) -> _Scored:
    _check_features(features)
    if student_pooling not in POOLINGS:
        raise unknown_name("student_pooling", student_pooling, POOLINGS)
    with evaluating(model), torch.inference_mode():
        return _scored(model, features, torch.device(device))


def _scored(model: TeacherStudent, features: FeatureArray, device: torch.device) -> _Scored:
    """Score a bag: a large one by ABMIL and the student block by block, else at once.

    Blocks change nothing but the order in which a matrix product adds up. Of a large bag, the copy in float32
    and the hidden vectors of one block are held, and a few numbers a tile.
    """
    offsets = torch.tensor([0, len(features)], dtype=torch.int64, device=device)
    teacher = model.teacher
    if len(features) > TILES_AT_ONCE and isinstance(teacher, Abmil) and type(teacher) in READ_ALONE:
        return _by_blocks(model, teacher, features, offsets=offsets)
    instances = _instances(features).to(device)
    return _Scored(model(instances, offsets), model.distances(instances))


def _by_blocks(model: TeacherStudent, teacher: Abmil, features: FeatureArray, *, offsets: Tensor) -> _Scored:
    blocks = [_read(model, teacher, _instances(rows).to(offsets.device)) for rows in _blocks(features)]
    attention_logits, evidence, distances = (
        torch.cat([getattr(block, name) for block in blocks])
        for name in ("attention_logits", "evidence", "distances")
    )
    logits = [block.instance_logits for block in blocks if block.instance_logits is not None]
    bag_logits = attention_pool(attention_logits, evidence, offsets)
    student = torch.cat(logits) if logits else None
    return _Scored(TeacherStudentOutput(bag_logits, attention_logits, evidence, student), distances)


def _read(model: TeacherStudent, teacher: Abmil, instances: Tensor) -> _Block:
    hidden = model.project(instances)
    attention_logits, evidence = teacher.read(hidden)
    student = None if model.student is None else model.student(hidden)
    # the evidence is a view of a product that holds the gates as well: of a copy nothing else stays
    return _Block(attention_logits, evidence.clone(), student, model.distances(instances))


def _blocks(features: FeatureArray) -> Iterator[FeatureArray]:
    return (features[first : first + TILES_AT_ONCE] for first in range(0, len(features), TILES_AT_ONCE))


def _check_features(features: FeatureArray) -> None:
    if len(features) == 0:
        raise BadInput("a slide without tiles cannot be scored; expected at least one row of features")
    if not all(np.isfinite(rows).all() for rows in _blocks(features)):
        raise BadInput("the features hold NaN or infinite values; embed the slide again")


def _instances(features: FeatureArray) -> Tensor:
    pixels = features.dtype == np.uint8
    return torch.from_numpy(np.ascontiguousarray(features, dtype=np.uint8 if pixels else np.float32))


def _mean_of_largest(logits: TileClassScores, kept: int) -> Float64[np.ndarray, "positives"]:
    """Return the mean of each class's `kept` largest tile logits, of all where there are fewer."""
    return np.asarray(np.sort(logits, axis=0)[-kept:].mean(axis=0))


def _pooled(logits: TileClassScores, *, student_pooling: str, top_k: int) -> StudentPrediction:
    by_max, by_topk = (
        _softmax(np.concatenate([[0.0], _mean_of_largest(logits, kept)])) for kept in (1, top_k)
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

"""What student and teacher gave, made comparable: the checks of every loss, and errors that name it.

Numbers below float32 (half, bfloat16) are raised to float32, so that squares and sums of squares do not
overflow. What comes from the teacher is detached.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.outputs import DistillationLoss, Outputs

VECTOR_AXES = 2
TOKEN_AXES = 3
MAP_AXES = 4
MIN_CLASSES = 2


class Pair(NamedTuple):
    """One thing of both sides."""

    student: Tensor
    teacher: Tensor


def title(loss: DistillationLoss) -> str:
    """Name a loss, and its pair of layers if it has one, for error messages."""
    return f"{type(loss).__name__} of the pair '{loss.pair}'" if loss.pair else type(loss).__name__


def require_positive(loss: DistillationLoss, **values: float | int) -> None:
    """Check that settings of a loss are above zero.

    Raises:
        BadInput: one is zero, negative or not a number.
    """
    for name, value in values.items():
        if not value > 0:
            raise BadInput(f"{title(loss)}: {name} is {value}; it must be above 0")


def require_weights(loss: DistillationLoss, **weights: float) -> None:
    """Check that two weights are not negative and not both 0.

    Raises:
        BadInput: naming both.
    """
    if min(weights.values()) < 0 or sum(weights.values()) == 0:
        (first, one), (second, other) = weights.items()
        raise BadInput(
            f"{title(loss)}: {first} is {one} and {second} {other}; both must be at least 0, one above it"
        )


def at_least_float32(values: Tensor) -> Tensor:
    """Raise half and bfloat16 to float32; leave float32 and float64."""
    return values.float() if values.dtype in {torch.float16, torch.bfloat16} else values


def student_logits(
    loss: DistillationLoss, student: Outputs, *, min_classes: int = MIN_CLASSES
) -> Float[Tensor, "samples classes"]:
    """Return the student's logits.

    Raises:
        BadInput: they are not (samples, classes), or the classes are fewer than `min_classes`.
    """
    return _checked_logits(loss, student.logits, side="student", min_classes=min_classes)


def logit_pair(
    loss: DistillationLoss, student: Outputs, teacher: Outputs, *, min_classes: int = MIN_CLASSES
) -> Pair:
    """Return both sides' logits, (samples, classes) each.

    Raises:
        BadInput: they are not (samples, classes), their shapes differ, or the classes are fewer than
            `min_classes` (a softmax over one class is 1 whatever the logit, so nothing would be learned).
    """
    ours = _checked_logits(loss, student.logits, side="student", min_classes=min_classes)
    theirs = _checked_logits(loss, teacher.logits, side="teacher", min_classes=min_classes)
    if ours.shape[1] != theirs.shape[1]:
        raise BadInput(
            f"{title(loss)}: the student has {ours.shape[1]} classes and the teacher {theirs.shape[1]}; "
            "their logits must be of the same classes in the same order"
        )
    _require_same_samples(loss, ours, theirs)
    return Pair(ours, theirs.detach())


def class_labels(
    loss: DistillationLoss, labels: Tensor | None, *, classes: int, samples: int
) -> Int64[Tensor, "samples"]:
    """Return labels as class indices; of soft labels (samples, classes) the largest class of each.

    Raises:
        BadInput: there are none, their shape or type does not fit, or one is no class of the student.
    """
    checked = label_targets(loss, labels, classes=classes, samples=samples)
    return checked.argmax(dim=1) if checked.ndim == VECTOR_AXES else checked


def label_targets(loss: DistillationLoss, labels: Tensor | None, *, classes: int, samples: int) -> Tensor:
    """Return labels as they are: (samples,) int64 classes, or soft (samples, classes) as mixup makes them.

    Raises:
        BadInput: there are none, their shape or type does not fit, or one is no class of the student.
    """
    if labels is None:
        raise BadInput(f"{title(loss)}: it needs labels and the batch has none; leave it out")
    if labels.is_floating_point() and tuple(labels.shape) == (samples, classes):
        return labels.detach()
    if labels.is_floating_point() or labels.dtype == torch.bool or tuple(labels.shape) != (samples,):
        raise BadInput(
            f"{title(loss)}: labels are {labels.dtype} of shape {tuple(labels.shape)}; expected integers of "
            f"shape ({samples},), or soft labels of shape ({samples}, {classes})"
        )
    if samples and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise BadInput(
            f"{title(loss)}: labels run from {int(labels.min())} to {int(labels.max())} and the student has "
            f"{classes} classes; expected 0 to {classes - 1}"
        )
    return labels.long()


def feature_pair(loss: DistillationLoss, student: Outputs, teacher: Outputs) -> Pair:
    """Return what the pair's layers gave: (samples, ...) each.

    Raises:
        BadInput: a side has no features of that name, they are no floating numbers of at least two axes,
            or the numbers of samples differ.
    """
    ours = _checked_features(loss, student, "student")
    theirs = _checked_features(loss, teacher, "teacher")
    _require_same_samples(loss, ours, theirs)
    return Pair(ours, theirs.detach())


def flat_pair(loss: DistillationLoss, student: Outputs, teacher: Outputs) -> Pair:
    """Return one vector a sample of each side, (samples, any) each; their lengths may differ.

    Raises:
        BadInput: as `feature_pair`.
    """
    ours, theirs = feature_pair(loss, student, teacher)
    return Pair(ours.flatten(1), theirs.flatten(1))


def map_pair(loss: DistillationLoss, student: Outputs, teacher: Outputs) -> Pair:
    """Return feature maps (samples, channels, height, width) of one size; the channels may differ.

    Vectors (samples, channels) are maps of one position, tokens (samples, tokens, channels) are maps of
    width 1. The larger map is average-pooled to the size of the smaller one.

    Raises:
        BadInput: as `feature_pair`; axes other than those; tokens on one side only, or of another number.
    """
    ours, theirs = feature_pair(loss, student, teacher)
    axes = {ours.ndim, theirs.ndim}
    if not axes <= {VECTOR_AXES, TOKEN_AXES, MAP_AXES} or (TOKEN_AXES in axes and axes != {TOKEN_AXES}):
        raise BadInput(f"{title(loss)}: {_shapes(ours, theirs)} cannot be paired; tap layers of one kind")
    if axes == {TOKEN_AXES} and ours.shape[1] != theirs.shape[1]:
        raise BadInput(
            f"{title(loss)}: {_shapes(ours, theirs)} are (samples, tokens, channels) and the tokens differ; "
            "tap layers with as many tokens on both sides"
        )
    return match_maps(as_maps(ours), as_maps(theirs))


def as_maps(features: Tensor) -> Float[Tensor, "samples channels height width"]:
    """See vectors and tokens as maps."""
    if features.ndim == VECTOR_AXES:
        return features[:, :, None, None]
    return features.transpose(1, 2)[:, :, :, None] if features.ndim == TOKEN_AXES else features


def match_maps(student: Tensor, teacher: Tensor) -> Pair:
    """Average-pool each map to the smaller height and the smaller width of the two."""
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    return Pair(_pooled(student, size), _pooled(teacher, size))


def _pooled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return maps if tuple(maps.shape[2:]) == size else F.adaptive_avg_pool2d(maps, size)


def _checked_logits(loss: DistillationLoss, logits: Tensor, *, side: str, min_classes: int) -> Tensor:
    if logits.ndim != VECTOR_AXES or not logits.is_floating_point():
        raise BadInput(
            f"{title(loss)}: the {side}'s logits are {logits.dtype} of shape {tuple(logits.shape)}; "
            "expected floating numbers of shape (samples, classes)"
        )
    if logits.shape[1] < min_classes:
        raise BadInput(
            f"{title(loss)}: the {side} has {logits.shape[1]} class and at least {min_classes} are needed; "
            "for one logit a class use 'bkd' with activation sigmoid"
        )
    return at_least_float32(logits)


def _checked_features(loss: DistillationLoss, outputs: Outputs, side: str) -> Tensor:
    found = outputs.features.get(loss.pair)
    if found is None:
        known = ", ".join(sorted(outputs.features)) or "none"
        raise BadInput(
            f"{title(loss)}: the {side} has no features of that name; those it has: {known}. "
            "Name the pair of layers after the criterion"
        )
    if found.ndim < VECTOR_AXES or not found.is_floating_point():
        raise BadInput(
            f"{title(loss)}: the {side}'s layer gives {found.dtype} of shape {tuple(found.shape)}; "
            "expected floating numbers of shape (samples, ...)"
        )
    return at_least_float32(found)


def _require_same_samples(loss: DistillationLoss, ours: Tensor, theirs: Tensor) -> None:
    if len(ours) != len(theirs):
        raise BadInput(
            f"{title(loss)}: {_shapes(ours, theirs)} are not of the same samples; "
            "both networks must see the same batch"
        )


def _shapes(ours: Tensor, theirs: Tensor) -> str:
    return f"the student's {tuple(ours.shape)} and the teacher's {tuple(theirs.shape)}"

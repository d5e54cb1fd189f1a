"""Start recipe distill's small model from the large one: main neurons copied, the rest averaged.

What reads the projector's neurons (the attention's maps, the bag head, the student's head) counts as one
layer behind it: stacked, it says which neurons matter, and is fitted anew to what the large model gives on
instances of the training part. The attention's own neurons are narrowed first, before its head. See
`wsi_kd.kd.copy_average_init` for the rule, and docs/kd_theory.md for what it is worth: steps, not accuracy.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from wsi_kd.bags.datasets import BagSet
from wsi_kd.bags.packing import on_device
from wsi_kd.core.errors import BadInput
from wsi_kd.kd.copy_average_init import Activation, Calibration, narrow_pair
from wsi_kd.mil.abmil import Abmil, GatedAbmil
from wsi_kd.mil.projectors import LinearProjector
from wsi_kd.mil.weno import TeacherStudent

CALIBRATION_INSTANCES: Final = 4096
SETTING: Final = "train.distill.start copy_average"


@torch.no_grad()
def start_narrow(small: TeacherStudent, large: TeacherStudent, bags: BagSet) -> None:
    """Set the small model's weights, in place; the same models and bags give the same weights.

    Its student starts from the large one's where both are linear, else from its own random weights.

    Args:
        small: of recipe distill, its scaling fitted.
        large: the trained model.
        bags: the training part, of which up to 4,096 instances are shown.

    Raises:
        BadInput: projectors or bag classifiers of another kind, a small model that is wider somewhere.
    """
    first, act = _projector(small, large)
    teacher, taught = _attention_pair(small, large)
    device = next(large.parameters()).device
    rows = _calibration_rows(len(bags.features))
    scaled = large.scaling(on_device(bags.features[rows], device=device, dtype=first.weight.dtype))
    hidden = act(first(scaled))
    attention = [(layer.weight, layer.bias) for layer in teacher.attention_layers()]
    head = teacher.attention_head
    if taught.attention_head.in_features < head.in_features:
        fit = Calibration(hidden, head(teacher.attend(hidden)))
        narrowed = narrow_pair(
            teacher.attention_tanh, head, taught.attention_head.in_features, activation=torch.tanh, fit=fit
        )
        attention, head = [(narrowed[0].weight, narrowed[0].bias)], narrowed[1]
    readers = [*taught.attention_layers(), taught.bag_head]
    given = [*attention, (teacher.bag_head.weight, teacher.bag_head.bias)]
    if (students := _linear_students(small, large)) is not None:
        readers.append(students[0])
        given.append((students[1].weight, students[1].bias))
    stacked = _stacked(given)
    width = small.projector.out_features if isinstance(small.projector, nn.Linear) else 0
    narrow = narrow_pair(first, stacked, width, activation=act, fit=Calibration(scaled, stacked(hidden)))
    _write(small, narrow, readers)
    taught.attention_head.load_state_dict(head.state_dict())


def _projector(small: TeacherStudent, large: TeacherStudent) -> tuple[nn.Linear, Activation]:
    """Return the large projector as a plain layer, and its activation."""
    ours, theirs = small.projector, large.projector
    if not (isinstance(ours, LinearProjector) and isinstance(theirs, LinearProjector)):
        raise BadInput(f"{SETTING}: it narrows projectors that read features; set start to random for pixels")
    if ours.rectified != theirs.rectified:
        raise BadInput(f"{SETTING}: the large model has another train.distill.projector; take the same")
    if ours.out_features > theirs.out_features:
        raise BadInput(
            f"{SETTING}: hidden_dim {ours.out_features} is above the large model's {theirs.out_features}; "
            "lower train.distill.hidden_dim"
        )
    plain = nn.Linear(theirs.in_features, theirs.out_features, device=theirs.weight.device)
    plain.load_state_dict(theirs.state_dict())
    return plain, (torch.relu if theirs.rectified else nn.Identity())


def _attention_pair(small: TeacherStudent, large: TeacherStudent) -> tuple[Abmil, Abmil]:
    ours, theirs = small.teacher, large.teacher
    if not (isinstance(ours, Abmil) and isinstance(theirs, Abmil) and type(ours) is type(theirs)):
        raise BadInput(
            f"{SETTING}: it narrows abmil into abmil and gated_abmil into gated_abmil, not "
            f"{type(theirs).__name__} into {type(ours).__name__}; change train.distill.teacher, or set start "
            "to random"
        )
    narrow, wide = ours.attention_head.in_features, theirs.attention_head.in_features
    if narrow > wide or (narrow < wide and isinstance(theirs, GatedAbmil)):
        raise BadInput(
            f"{SETTING}: attention_dim {narrow} for a large model of {wide}; a gated attention cannot be "
            f"narrowed and none be widened: set train.distill.attention_dim to {wide}"
        )
    return theirs, ours


def _linear_students(small: TeacherStudent, large: TeacherStudent) -> tuple[nn.Linear, nn.Linear] | None:
    """Return both students' heads where they read the projector's neurons and have the same outputs."""
    if small.student is None or large.student is None:
        return None
    ours, theirs = small.student, large.student
    linear = isinstance(ours.hidden, nn.Identity) and isinstance(theirs.hidden, nn.Identity)
    same = ours.head.out_features == theirs.head.out_features
    return (ours.head, theirs.head) if linear and same else None


def _stacked(layers: Sequence[tuple[Tensor, Tensor]]) -> nn.Linear:
    weight, bias = (torch.cat(parts) for parts in zip(*layers, strict=True))
    stacked = nn.Linear(weight.shape[1], len(weight), device=weight.device)
    stacked.weight.copy_(weight)
    stacked.bias.copy_(bias)
    return stacked


def _write(small: TeacherStudent, narrow: tuple[nn.Linear, nn.Linear], readers: list[nn.Linear]) -> None:
    """Give the small projector its weights, and each reader its rows."""
    small.projector.load_state_dict(narrow[0].state_dict())
    counts = [reader.out_features for reader in readers]
    weights, biases = (torch.split(part, counts) for part in (narrow[1].weight, narrow[1].bias))
    for reader, weight, bias in zip(readers, weights, biases, strict=True):
        reader.weight.copy_(weight)
        reader.bias.copy_(bias)


def _calibration_rows(instances: int) -> list[int]:
    drawn = torch.randperm(instances, generator=torch.Generator().manual_seed(0))[:CALIBRATION_INSTANCES]
    return sorted(drawn.tolist())

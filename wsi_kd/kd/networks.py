"""The two sides of a distillation: what student and teachers give for a batch, and what is asked of both."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.batches import Batch
from wsi_kd.kd.criteria import Criterion
from wsi_kd.kd.fit_state import Best, portable, tensors_of
from wsi_kd.kd.outputs import Outputs
from wsi_kd.kd.taps import LayerTaps, unwrap
from wsi_kd.kd.training_step import LogitsOf, network_outputs, teacher_side

STUDENT = "the student"
Which: TypeAlias = Literal["last", "best"]


class Sides(NamedTuple):
    """What both sides gave for one batch."""

    student: Outputs
    teachers: list[Outputs]
    """Empty where no criterion looks at a teacher."""


class Reading(NamedTuple):
    """How networks are asked."""

    teacher_input: Callable[[Any], Any] | None
    """From the student's inputs to the teacher's; None: both see the same tensor."""
    logits_of: LogitsOf | None


def check_networks(student: nn.Module, teachers: Sequence[nn.Module], criteria: Sequence[Criterion]) -> None:
    """Check that the networks can be distilled, and have the layers that are named.

    Raises:
        BadInput: a student with nothing to train, a teacher that shares parameters with it, an unknown layer.
    """
    own = {id(parameter) for parameter in student.parameters()}
    if not any(parameter.requires_grad for parameter in student.parameters()):
        raise BadInput("the student has no parameter that can be trained; call student.requires_grad_()")
    for number, teacher in enumerate(teachers):
        if own & {id(parameter) for parameter in teacher.parameters()}:
            raise BadInput(
                f"teacher {number + 1} shares parameters with the student, and a teacher is frozen; "
                "pass copy.deepcopy(teacher)"
            )
        LayerTaps(teacher, _teacher_layers(criteria, number).values(), who=_title(number))
    LayerTaps(student, _student_layers(criteria).values(), who=STUDENT)


def run_networks(
    student: nn.Module,
    teachers: Sequence[nn.Module],
    batch: Batch,
    *,
    criteria: Sequence[Criterion],
    reading: Reading,
) -> Sides:
    """Run the student, and the teachers in eval mode and without gradient.

    Raises:
        BadInput: logits that are not (samples, classes), layers that did not run once.
    """
    layers = _student_layers(criteria)
    ours = network_outputs(student, batch.inputs, layers=layers, logits_of=reading.logits_of, who=STUDENT)
    if not any(criterion.loss.reads_teacher for criterion in criteria):
        return Sides(ours, [])
    return Sides(ours, run_teachers(teachers, batch, criteria=criteria, reading=reading))


@torch.no_grad()
def run_teachers(
    teachers: Sequence[nn.Module], batch: Batch, *, criteria: Sequence[Criterion], reading: Reading
) -> list[Outputs]:
    """Run the teachers in eval mode, whatever mode they are in, and without gradient.

    Raises:
        BadInput: as `run_networks`.
    """
    inputs = batch.inputs if reading.teacher_input is None else reading.teacher_input(batch.inputs)
    outputs = []
    for number, teacher in enumerate(teachers):
        teacher.eval()  # whoever holds the teacher may have changed its mode since
        layers, who = _teacher_layers(criteria, number), _title(number)
        outputs.append(network_outputs(teacher, inputs, layers=layers, logits_of=reading.logits_of, who=who))
    return outputs


def prepare_losses(criteria: Sequence[Criterion], sides: Sides) -> None:
    """Let each loss build what depends on shapes.

    Raises:
        BadInput: what the losses raise, told with criterion and layers.
    """
    for criterion in criteria:
        try:
            criterion.loss.prepare(sides.student, teacher_side(criterion, sides.student, sides.teachers))
        except BadInput as error:
            raise BadInput(f"{criterion.described}: {error}") from None


@contextmanager
def holding(student: nn.Module, best: Best | None, *, which: Which) -> Iterator[None]:
    """Give the student the weights asked for, and its own back afterwards.

    Raises:
        BadInput: there is no best epoch yet.
    """
    if which not in {"last", "best"}:
        raise BadInput(f"which is '{which}'; expected last or best")
    if which == "last":
        yield
        return
    if best is None:
        raise BadInput(
            "no epoch was trained and validated, so none is the best; call fit, or use which='last'"
        )
    inner = unwrap(student)
    own = portable(tensors_of(inner))
    inner.load_state_dict(best.weights)
    try:
        yield
    finally:
        inner.load_state_dict(own)


def _student_layers(criteria: Sequence[Criterion]) -> dict[str, str]:
    return {c.name: c.student_layer for c in criteria if c.student_layer is not None}


def _teacher_layers(criteria: Sequence[Criterion], number: int) -> dict[str, str]:
    return {c.name: c.teacher_layers[number] for c in criteria if c.teacher_layers}


def _title(number: int) -> str:
    return f"teacher {number + 1}"

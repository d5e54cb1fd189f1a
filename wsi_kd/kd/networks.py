"""The two sides of a distillation: what student and teachers give for a batch, and what is asked of both."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, distributed, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.batches import Batch
from wsi_kd.kd.criteria import Criterion
from wsi_kd.kd.outputs import Outputs
from wsi_kd.kd.reading import Reading
from wsi_kd.kd.taps import LayerTaps
from wsi_kd.kd.training_step import network_outputs, teacher_side

STUDENT: Final = "the student"


class Sides(NamedTuple):
    """What both sides gave for one batch."""

    student: Outputs
    teachers: list[Outputs]
    """Empty where no criterion looks at a teacher."""


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
        BadInput: logits that are not (samples, classes), layers that did not run once, a student that
            changes the inputs that the teachers see.
    """
    layers, versions = _student_layers(criteria), _versions(batch.inputs)
    ours = network_outputs(student, batch.inputs, layers=layers, logits_of=reading.logits_of, who=STUDENT)
    if not any(criterion.loss.reads_teacher for criterion in criteria):
        return Sides(ours, [])
    if teachers and _versions(batch.inputs) != versions:
        raise BadInput(
            "the student changes its inputs in place, and the teacher would see what it left of them; clone "
            "them in its forward, or turn inplace off in its first layer"
        )
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


def check_processes(student: nn.Module, criteria: Sequence[Criterion]) -> None:
    """Check that what is learned will be the same in all processes.

    Raises:
        BadInput: DistributedDataParallel is around the student alone, several processes train, and losses
            have layers that learn: each process would learn its own.
    """
    if not (isinstance(student, nn.parallel.DistributedDataParallel) and distributed.get_world_size() > 1):
        return
    for criterion in criteria:
        if any(parameter.requires_grad for parameter in criterion.loss.parameters()):
            raise BadInput(
                f"{criterion.described}: it learns layers of its own, which DistributedDataParallel around "
                "the student leaves out; prepare a Distiller of the bare student, put "
                "DistributedDataParallel around the Distiller, and call that in a loop of your own"
            )


def _student_layers(criteria: Sequence[Criterion]) -> dict[str, str]:
    return {c.name: c.student_layer for c in criteria if c.student_layer is not None}


def _teacher_layers(criteria: Sequence[Criterion], number: int) -> dict[str, str]:
    return {c.name: c.teacher_layers[number] for c in criteria if c.teacher_layers}


def _versions(inputs: Any) -> list[int]:
    """Return how often each tensor was changed in place."""
    values = inputs.values() if isinstance(inputs, Mapping) else inputs
    parts = values if not isinstance(values, Tensor) and isinstance(values, Iterable) else [values]
    return [part._version for part in parts if isinstance(part, Tensor) and not part.is_inference()]


def _title(number: int) -> str:
    return f"teacher {number + 1}"

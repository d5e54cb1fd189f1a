"""Method variance_reduction: a share of the teacher's gradient of each batch is taken off the student's.

The criteria are the loss of the labels that both gradients are of (ce, as a rule), nothing else. One weight
is taken as it is; of several each is tried, and the one whose best epoch does best on validation is kept.
"""

import copy
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from wsi_kd.core.device import choose_device
from wsi_kd.core.errors import BadInput
from wsi_kd.distillation.methods.plain import distill_plain
from wsi_kd.distillation.optimizers import create_schedule
from wsi_kd.distillation.task import Outcome, Task, TrainPlan
from wsi_kd.kd.batches import read_batch
from wsi_kd.kd.fit_state import portable, tensors_of
from wsi_kd.kd.losses.kl import KdLoss
from wsi_kd.kd.outputs import Outputs
from wsi_kd.kd.schedules import Schedule
from wsi_kd.kd.seeding import seeded
from wsi_kd.kd.teacher_gradient import Gradients, Objective, check_same_parameters, mean_gradient
from wsi_kd.kd.variance_reduction import ControlVariate, check_temperature, check_weight, cosine_with_kd

TERM: Final = "control_variate"
"""The criterion added: its value is the part of f_xi(theta) - f_xi(x) that is linear in x - theta."""
FULL_DRAW: Final = 2**31 + 1
"""Draw of `seeded` for the pass over the training part; epochs have the small ones."""


class Candidate(NamedTuple):
    """A weight tried."""

    weight: float
    outcome: Outcome
    last: dict[str, Tensor]
    """The student of the last epoch."""


def distill_variance_reduction(
    task: Task,
    *,
    weight: float | Sequence[float],
    full_gradient: bool = False,
    schedule: Mapping[str, Any] | None = None,
) -> Outcome:
    """Train the student with the distillation gradient of one teacher of its own architecture.

    The optimizer's weight decay is part of the loss where it is part of the gradient (SGD, Adam), so that the
    teacher's gradient has it too.

    Args:
        task: with one teacher; its criteria read the labels only.
        weight: w in [0, 1], or several of which validation chooses; 0 is the student without a teacher.
        full_gradient: give the teacher's mean gradient over the training part back: no bias, as SVRG.
        schedule: name and fields of what multiplies w over the training; None: nothing does.

    Raises:
        BadInput: not one teacher, parameters that differ, criteria that read a teacher, no usable weight.
        RunFailed: as `Distiller.fit`.
    """
    weights = [float(weight)] if isinstance(weight, float | int) else [float(value) for value in weight]
    _check(task, weights)
    given_back = _mean_gradient(task) if full_gradient else None
    factor = None if schedule is None else _create_schedule(schedule)
    tried = [
        _train(_of_weight(task, value, alone=len(weights) == 1), value, given_back=given_back, factor=factor)
        for value in weights
    ]
    chosen = tried[0]
    for candidate in tried[1:]:
        if candidate.outcome.best.beats(chosen.outcome.best):
            chosen = candidate
    task.student.load_state_dict(chosen.last)
    return chosen.outcome._replace(told=_tell(task, tried, chosen=chosen))


def coupled_weight_decay(plan: TrainPlan) -> float:
    """Return the weight decay that the optimizer adds to gradients: 0 where it is decoupled (AdamW)."""
    optimizer = plan.optimizer([nn.Parameter(torch.zeros(1))])
    group = optimizer.param_groups[0]
    known = type(optimizer) in {torch.optim.SGD, torch.optim.Adam}
    return float(group["weight_decay"]) if known and not group.get("decoupled_weight_decay") else 0.0


def _train(task: Task, weight: float, *, given_back: Gradients | None, factor: Schedule | None) -> Candidate:
    term = ControlVariate(
        task.student,
        task.teachers[0],
        objective=_objective(task),
        weight_decay=coupled_weight_decay(task.plan),
        full_gradient=given_back,
    )
    schedules = {} if factor is None else {TERM: factor}
    criteria = {**task.criteria, TERM: (term, weight)}
    with closing(term):
        outcome = distill_plain(task._replace(criteria=criteria, weight_schedules=schedules), unlabeled=False)
    return Candidate(weight, outcome, portable(tensors_of(task.student)))


def _of_weight(task: Task, weight: float, *, alone: bool) -> Task:
    """Return the task with a student of its own: every weight starts from the same, and has its own state."""
    task = task._replace(student=copy.deepcopy(task.student), criteria=copy.deepcopy(dict(task.criteria)))
    if alone:
        return task
    path, on_epoch = task.state_path, task.on_epoch
    return task._replace(
        state_path=path and path.with_name(f"{path.stem}.weight{weight:g}{path.suffix}"),
        on_epoch=on_epoch and (lambda row: on_epoch({"epoch": row["epoch"], "weight": weight, **row})),
    )


def _objective(task: Task) -> Objective:
    """The weighted sum of the criteria, which the student learns from too."""
    criteria = list(task.criteria.values())

    def objective(logits: Tensor, labels: Tensor) -> Tensor:
        given = Outputs(logits)
        return torch.stack([weight * loss(given, given, labels) for loss, weight in criteria]).sum()

    return objective


def _mean_gradient(task: Task) -> Gradients:
    device = choose_device(task.plan.device)
    augment = task.augment
    with seeded(task.plan.seed, FULL_DRAW, device=device):
        return mean_gradient(
            task.teachers[0].to(device), task.data.train, objective=_objective(task), augment=augment
        )


def _tell(task: Task, tried: Sequence[Candidate], *, chosen: Candidate) -> dict[str, Any]:
    teacher = task.teachers[0]
    device = next(teacher.parameters()).device
    inputs, labels = read_batch(next(iter(task.data.val)), adapter=None, device=device)
    student = copy.deepcopy(task.student).to(device)
    told: dict[str, Any] = {
        "weight": chosen.weight,
        "tried": [
            {"weight": each.weight, "best_epoch": each.outcome.best_epoch, **each.outcome.best._asdict()}
            for each in tried
        ],
    }
    if labels is not None:
        batch = (inputs, labels.to(device))
        told["cosine_with_kd"] = cosine_with_kd(student, teacher, batch, weight=chosen.weight)
    return told


def _create_schedule(schedule: Mapping[str, Any]) -> Schedule:
    return create_schedule(
        schedule["name"], {name: value for name, value in schedule.items() if name != "name"}
    )


def _check(task: Task, weights: Sequence[float]) -> None:
    if len(task.teachers) != 1:
        raise BadInput(f"method variance_reduction: there are {len(task.teachers)} teachers; it takes one")
    if not weights or len(set(weights)) < len(weights):
        raise BadInput(f"method variance_reduction: weights {list(weights)}; expected one or more, each once")
    for weight in weights:
        check_weight(weight)
    if task.weight_schedules:
        raise BadInput(
            f"method variance_reduction: a schedule of the criterion '{next(iter(task.weight_schedules))}'; "
            "both gradients are of one loss all the time: take it out; method.schedule is that of the weight"
        )
    for name, (loss, _) in task.criteria.items():
        if isinstance(loss, KdLoss):
            check_temperature(loss.temperature)
        if loss.reads_teacher or name == TERM:
            raise BadInput(
                f"method variance_reduction: criterion '{name}' ({type(loss).__name__}); expected criteria "
                "of the labels only, such as ce: method.weight stands for what the teacher says"
            )
    check_same_parameters(task.student, task.teachers[0])

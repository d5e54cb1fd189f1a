"""What passes between the command `distill` and a training method: plain values, networks and loaders."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from wsi_kd.kd.augmentation import Augment
from wsi_kd.kd.distiller import Distiller
from wsi_kd.kd.evaluation import Evaluation
from wsi_kd.kd.outputs import DistillationLoss
from wsi_kd.kd.schedules import Schedule

MakeOptimizer: TypeAlias = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


class Data(NamedTuple):
    """Three parts that share no sample; batches are (inputs, labels), labels (samples,) int64."""

    train: DataLoader[Any]
    """Shuffled anew at every walk, by torch's global generator: `kd.seeding.seeded` makes it repeatable."""
    val: DataLoader[Any]
    test: DataLoader[Any]
    classes: int
    input_shape: tuple[int, ...]
    """Of one sample, such as (64,) or (3, 32, 32)."""
    unlabeled: DataLoader[Any] | None = None
    """The rest of the training part, where only some of it is labeled: batches are (inputs,), shuffled."""


class TrainPlan(NamedTuple):
    """How any method steps."""

    epochs: int
    optimizer: MakeOptimizer
    """From the parameters to train to their optimizer, its learning rate inside."""
    learning_rate_schedule: Schedule | None
    """What multiplies the learning rates; None: nothing does."""
    device: str
    """auto, cpu, cuda or cuda:N."""
    seed: int


class Task(NamedTuple):
    """All that a training method is given beside its own options.

    Afterwards `student` has the weights of the last epoch; those of the best one are in the `Outcome`.
    """

    student: nn.Module
    teachers: Sequence[nn.Module]
    """Trained already; empty: a baseline without any."""
    data: Data
    criteria: Mapping[str, tuple[DistillationLoss, float]]
    """(loss, weight) by name; each run of a method gets losses of its own."""
    layers: Mapping[str, tuple[str, str | Sequence[str]]]
    """(student's layer, teacher's layer) by the criterion's name."""
    plan: TrainPlan
    weight_schedules: Mapping[str, Schedule] = MappingProxyType({})
    """What multiplies a criterion's weight, by its name."""
    augment: Augment | None = None
    """Applied to training batches, before teacher and student see them."""
    state_path: Path | None = None
    """File to go on from, if it is there, and to write while training; None: none is kept."""
    on_epoch: Callable[[dict[str, float | int]], None] | None = None
    """Told each row of the history."""


class Outcome(NamedTuple):
    """What a training method comes to."""

    history: list[dict[str, float | int]]
    """One row an epoch; every row has the same keys."""
    best: Evaluation
    """On the validation part, of the epoch chosen there."""
    last: Evaluation
    """On the validation part, of the last epoch."""
    best_epoch: int
    """Counted from 0."""
    weights: dict[str, Tensor]
    """State of the best epoch's student, on the CPU."""
    told: dict[str, Any]
    """What the method found out, as JSON knows it: alphas, the winning genome."""


def distiller_of(task: Task) -> Distiller:
    """Return the `Distiller` of a task, nothing trained yet.

    Raises:
        BadInput: as `Distiller`.
    """
    plan = task.plan
    return Distiller(
        task.student,
        list(task.teachers),
        criteria=task.criteria,
        layers=task.layers,
        weight_schedules=task.weight_schedules,
        optimizer=plan.optimizer,
        learning_rate_schedule=plan.learning_rate_schedule,
        device=plan.device,
        seed=plan.seed,
        augment=task.augment,
    )

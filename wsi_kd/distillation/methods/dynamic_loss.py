"""Method dynamic_loss: a small network is part of the student's loss, and an LSTM changes it while it learns.

A part of the validation samples teaches the loss; the rest, which it never sees, chooses the best epoch.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from wsi_kd.core.errors import BadInput, unknown_name
from wsi_kd.distillation.task import Outcome, Task, distiller_of
from wsi_kd.kd.dynamic_loss import DynamicLoss
from wsi_kd.kd.dynamic_loss_teacher import CoordinateLstm, GradientDescent, LossTeacher
from wsi_kd.kd.dynamic_loss_training import LearningToTeach
from wsi_kd.kd.fitting import OptimizerFactory

TERM: Final = "dynamic"
"""The criterion added."""
GRID: Final = 11
"""At how many probabilities, 0 to 1, what the loss has become is told."""


class Halves(NamedTuple):
    """The validation part, cut in two."""

    teaching: DataLoader[Any]
    """What the loss learns from; shuffled anew at every walk."""
    choosing: DataLoader[Any]
    """What the best epoch is chosen on."""


def distill_dynamic_loss(
    task: Task,
    *,
    teaching: int | float,
    weight: float,
    hidden: int,
    activation: str,
    teacher: Mapping[str, Any],
    inner_steps: int,
    window: int,
) -> Outcome:
    """Train the student on the criteria and a dynamic loss; samples without labels are left out.

    Args:
        task: its optimizer is SGD; teachers are there for criteria that read one, and may be none.
        teaching: number or share of the validation samples that teach the loss.
        weight: of the dynamic loss beside the criteria.
        hidden: hidden units of the loss network.
        activation: of the loss network; a smooth one.
        teacher: {"name": "lstm", "units", "scale", "learning_rate"} or {"name": "descent", "rate"}.
        inner_steps: training batches between two changes of the loss.
        window: changes of the loss that the LSTM learns from at once.

    Raises:
        BadInput: a criterion that is called as the one added, too few validation samples; as
        `LearningToTeach.fit`. RunFailed: as `LearningToTeach.fit`.
    """
    if TERM in task.criteria:
        raise BadInput(
            f"method dynamic_loss: it adds the criterion '{TERM}', and there is one already; rename it"
        )
    plan = task.plan
    halves = split_validation(task.data.val, teaching=teaching, seed=plan.seed)
    loss = DynamicLoss(hidden=hidden, activation=activation, seed=plan.seed)
    distiller = distiller_of(task._replace(criteria={**task.criteria, TERM: (loss, weight)}))
    changer, optimizer = _create_teacher(teacher, seed=plan.seed)
    learning = LearningToTeach(
        distiller, teacher=changer, optimizer=optimizer, inner_steps=inner_steps, window=window
    )
    result = learning.fit(
        task.data.train,
        halves.teaching,
        halves.choosing,
        epochs=plan.epochs,
        state_path=task.state_path,
        on_epoch=task.on_epoch,
    )
    counts = {"teaching_samples": _samples(halves.teaching), "choosing_samples": _samples(halves.choosing)}
    return Outcome(
        history=result.history,
        best=result.best,
        last=result.last,
        best_epoch=result.best_epoch,
        weights=learning.student_state(which="best"),
        told={**result.pretrained, **counts, "loss": tell_loss(loss)},
    )


def split_validation(val: DataLoader[Any], *, teaching: int | float, seed: int) -> Halves:
    """Cut a validation part in two, each class in the same proportion; `teaching` is a number or a share.

    Raises:
        BadInput: nothing would be left for one of both.
    """
    in_order = DataLoader(val.dataset, batch_size=val.batch_size, collate_fn=val.collate_fn)
    labels = torch.cat([batch[1] for batch in in_order])
    count = teaching if isinstance(teaching, int) else round(teaching * len(labels))
    if not 0 < count < len(labels):
        raise BadInput(
            f"method.teaching is {teaching}: {count} of {len(labels)} validation samples would teach the "
            "loss; at least one must, and at least one must be left to choose the best epoch"
        )
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    # every so many-th of the row by class: each class gives its share
    places = (torch.arange(count) * len(labels)) // count
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[by_class[places]] = True
    return Halves(_part(val, chosen, shuffle=True), _part(val, ~chosen, shuffle=False))


def tell_loss(loss: DynamicLoss) -> dict[str, list[float]]:
    """Return what a class's probability costs where the label says the class, and where it does not.

    Values at probability 0 are 0: a loss is known up to a constant.
    """
    first = next(loss.parameters())
    grid = torch.linspace(0.0, 1.0, GRID, device=first.device, dtype=first.dtype)[:, None]
    with torch.no_grad():
        told = {
            name: torch.stack([loss.of_pairs(one[None], torch.full_like(one[None], target)) for one in grid])
            for name, target in (("of_the_label", 1.0), ("of_another_class", 0.0))
        }
    return {"probability": grid[:, 0].tolist(), **{name: _from_zero(values) for name, values in told.items()}}


def _create_teacher(teacher: Mapping[str, Any], *, seed: int) -> tuple[LossTeacher, OptimizerFactory | None]:
    if teacher["name"] == "descent":
        return GradientDescent(rate=teacher["rate"]), None
    if teacher["name"] != "lstm":
        raise unknown_name("teacher of method dynamic_loss", teacher["name"], ("lstm", "descent"))
    rate = float(teacher["learning_rate"])
    lstm = CoordinateLstm(units=teacher["units"], scale=teacher["scale"], seed=seed)
    return lstm, lambda parameters: torch.optim.Adam(parameters, lr=rate)


def _part(loader: DataLoader[Any], chosen: Tensor, *, shuffle: bool) -> DataLoader[Any]:
    part = Subset(loader.dataset, chosen.nonzero()[:, 0].tolist())
    return DataLoader(
        part,
        batch_size=loader.batch_size,
        shuffle=shuffle,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
    )


def _samples(loader: DataLoader[Any]) -> int:
    return sum(len(batch[1]) for batch in loader)


def _from_zero(values: Tensor) -> list[float]:
    return (values - values[0]).tolist()

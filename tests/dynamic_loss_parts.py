"""Distillers with a dynamic loss for the tests of how it is learned."""

from typing import Any

import torch
from distillation_parts import INPUTS, make_network
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from wsi_kd.kd import Distiller
from wsi_kd.kd.dynamic_loss import DynamicLoss
from wsi_kd.kd.dynamic_loss_pupil import Pupil
from wsi_kd.kd.losses.task import CrossEntropyLoss

CLASSES = 3


def samples(count: int, *, seed: int) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(count, INPUTS, generator=torch.Generator().manual_seed(seed))
    return inputs, inputs[:, :CLASSES].argmax(dim=1)


def loader(count: int = 24, *, seed: int = 0, batch: int = 6, **options: Any) -> DataLoader[Any]:
    """Shuffled by a generator of its own, so that other loaders' draws play no role."""
    order = torch.Generator().manual_seed(seed)
    data = TensorDataset(*samples(count, seed=seed))
    return DataLoader(data, batch_size=batch, **({"shuffle": True, "generator": order} | options))


def plain_student(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(INPUTS, 5), nn.ReLU(), nn.Linear(5, CLASSES))


def sgd(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01)


def teach_distiller(student: nn.Module | None = None, **settings: Any) -> Distiller:
    """Cross entropy and a dynamic loss; the student has batch norm and dropout unless another is given."""
    criteria = {"ce": (CrossEntropyLoss(), 1.0), "dynamic": (DynamicLoss(hidden=4), 1.0)}
    student = make_network(0) if student is None else student
    return Distiller(student, [], **({"criteria": criteria, "optimizer": sgd} | settings))


def double_batches(count: int, *, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    drawn = [samples(8, seed=seed + number) for number in range(count)]
    return [(inputs.double(), labels) for inputs, labels in drawn]


def ready_pupil(student: nn.Module, **settings: Any) -> Pupil:
    """A prepared pupil in float64 whose loss network and momenta are not 0."""
    distiller = teach_distiller(student, **settings).double()
    distiller.prepare(double_batches(1)[0])
    pupil = Pupil(distiller)
    pupil.prepare()
    draw = torch.Generator().manual_seed(7)
    pupil.change_loss(torch.randn(len(pupil.loss_numbers), generator=draw, dtype=torch.float64))
    for momentum in pupil.momenta.values():
        momentum.normal_(std=0.1, generator=draw)
    return pupil

"""Small networks, losses and loaders of the distiller's tests."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from wsi_kd.kd.distiller import Distiller
from wsi_kd.kd.outputs import FEATURES, LABELS, LOGITS, TEACHERS, DistillationLoss, Outputs

INPUTS, CLASSES = 4, 3


class LogitMatch(DistillationLoss):
    """Mean squared difference of logits."""

    needs: ClassVar[frozenset[str]] = frozenset({LOGITS})

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Tensor:
        return F.mse_loss(student.logits, teacher.logits)


class Task(DistillationLoss):
    """Cross entropy with the labels."""

    needs: ClassVar[frozenset[str]] = frozenset({LOGITS, LABELS})
    reads_teacher: ClassVar[bool] = False

    def forward(self, student: Outputs, teacher: Any, labels: Tensor | None) -> Tensor:
        assert labels is not None
        return F.cross_entropy(student.logits, labels)


class Projected(DistillationLoss):
    """Mean squared difference of features after a layer that is built for them."""

    needs: ClassVar[frozenset[str]] = frozenset({FEATURES})

    def prepare(self, student: Outputs, teacher: Outputs) -> None:
        self.layer = nn.Linear(student.features[self.pair].shape[1], teacher.features[self.pair].shape[1])

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Tensor:
        return F.mse_loss(self.layer(student.features[self.pair]), teacher.features[self.pair])


class MeanTeacher(DistillationLoss):
    """Mean squared difference to the mean of several teachers' probabilities."""

    needs: ClassVar[frozenset[str]] = frozenset({LOGITS, TEACHERS})

    def forward(self, student: Outputs, teacher: list[Outputs], labels: Tensor | None) -> Tensor:
        target = torch.stack([one.logits.softmax(dim=1) for one in teacher]).mean(dim=0)
        return F.mse_loss(student.logits.softmax(dim=1), target)


def make_network(seed: int, *, hidden: int = 5) -> nn.Sequential:
    """A network with batch norm and dropout, which know the mode they are in."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(INPUTS, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(hidden, CLASSES),
        )


def sgd(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def adamw(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=0.01, betas=(0.8, 0.99))


def make_distiller(student: nn.Module | None = None, teachers: Any = None, **settings: Any) -> Distiller:
    """Student of seed 0, a wider teacher of seed 1, task and logits, unless something else is asked for."""
    settings = {"criteria": {"ce": (Task(), 0.5), "kd": (LogitMatch(), 2.0)}, "optimizer": sgd} | settings
    student = make_network(0) if student is None else student
    return Distiller(student, make_network(1, hidden=7) if teachers is None else teachers, **settings)


def batch_of(samples: int = 6, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs, and labels that are the largest of the first three of them."""
    inputs = torch.randn(samples, INPUTS, generator=torch.Generator().manual_seed(seed))
    return inputs, inputs[:, :CLASSES].argmax(dim=1)


def make_loader(samples: int = 24, *, seed: int = 0, batch: int = 6, **options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*batch_of(samples, seed=seed)), batch_size=batch, **options)


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)

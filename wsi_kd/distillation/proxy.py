"""Short trainings that stand for long ones: the fitness of a search over losses."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import torch
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.distillation.methods.plain import Interleaved
from wsi_kd.distillation.task import Task, distiller_of
from wsi_kd.kd.batches import read_batch
from wsi_kd.kd.distiller import Distiller
from wsi_kd.kd.evaluation import Evaluation, quiet
from wsi_kd.kd.search.genome import Genome
from wsi_kd.kd.search.operations import OPERATIONS, Operations
from wsi_kd.kd.search.searched import build
from wsi_kd.kd.search.similarity import representation_gap, sharpness_gap
from wsi_kd.kd.training_step import network_outputs

SEARCHED: Final = "searched"


class FirstBatches:
    """The first batches of every walk of a loader: a smaller epoch."""

    def __init__(self, loader: Iterable[Any], count: int) -> None:
        self._loader, self._count = loader, count

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self._loader), self._count)


@dataclass(frozen=True)
class Proxy:
    """A short training with a genome. It can be sent to a process, if what it holds can."""

    task: Task
    """Its student and criteria are copied for every training."""
    seeds: Sequence[int]
    """A training each; the fitness is their mean."""
    epochs: int
    batches: int | None
    """Of each epoch; None: all."""
    objective: str
    """Of `OBJECTIVES`; see `distill_search`."""
    unlabeled: bool = False
    """Whether the batches without labels are walked too."""
    operations: Operations = OPERATIONS

    def __call__(self, genome: Genome) -> float:
        """Return the mean of the objective over the seeds; the higher the better.

        Raises:
            BadInput: as `Distiller`.
            RunFailed: a training diverged.
        """
        return sum(self._train(genome, seed) for seed in self.seeds) / len(self.seeds)

    def _train(self, genome: Genome, seed: int) -> float:
        task = with_genome(self.task, genome, operations=self.operations)
        distiller = distiller_of(
            task._replace(student=copy.deepcopy(task.student), plan=task.plan._replace(seed=seed))
        )
        train: Iterable[Any] = task.data.train
        if self.unlabeled and task.data.unlabeled is not None:
            train = Interleaved(task.data.train, task.data.unlabeled)
        seen = train if self.batches is None else FirstBatches(train, self.batches)
        scored = distiller.fit(seen, task.data.val, epochs=self.epochs).last
        return OBJECTIVES[self.objective](distiller, task, scored)


def with_genome(task: Task, genome: Genome, *, operations: Operations = OPERATIONS) -> Task:
    """Return the task with the genome's loss as a further criterion; those it had are copied."""
    loss = build(genome, operations=operations)
    criteria = {**copy.deepcopy(dict(task.criteria)), SEARCHED: (loss, genome.weight)}
    layers = dict(task.layers) if genome.layers is None else {**task.layers, SEARCHED: genome.layers}
    return task._replace(criteria=criteria, layers=layers)


def _accuracy(distiller: Distiller, task: Task, scored: Evaluation) -> float:
    del distiller, task
    if scored.accuracy is None:
        raise BadInput("search: objective accuracy needs labels of the validation part; take objective: gaps")
    return scored.accuracy


def _gaps(distiller: Distiller, task: Task, scored: Evaluation) -> float:
    del scored
    ours, theirs = (
        _logits(network, task, device=distiller.device) for network in (distiller.student, task.teachers[0])
    )
    return -representation_gap(ours, theirs) - sharpness_gap(ours, theirs)


OBJECTIVES: Final[dict[str, Callable[[Distiller, Task, Evaluation], float]]] = {
    "accuracy": _accuracy,
    "gaps": _gaps,
}
"""What a short training is rated by, on the validation part."""


@torch.no_grad()
def _logits(network: nn.Module, task: Task, *, device: torch.device) -> Tensor:
    found = []
    with quiet(network):
        for raw in task.data.val:
            inputs = read_batch(raw, adapter=None, device=device).inputs
            found.append(network_outputs(network, inputs, layers={}, logits_of=None, who="a network").logits)
    return torch.cat(found)

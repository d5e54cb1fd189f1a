"""How one batch teaches: who is asked, in which way, and what stands between them."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.batches import Batch, walk
from wsi_kd.kd.criteria import Criterion, own_weights
from wsi_kd.kd.evaluation import Evaluation, evaluate, quiet
from wsi_kd.kd.networks import STUDENT, Sides, check_processes, prepare_losses, run_networks, run_teachers
from wsi_kd.kd.outputs import VAL, Outputs
from wsi_kd.kd.pretraining import pretrain_losses
from wsi_kd.kd.reading import Reading
from wsi_kd.kd.training_step import Step, compute_step


class Lesson(NamedTuple):
    """Student, teachers and losses, and how batches are read for them."""

    student: nn.Module
    teachers: Sequence[nn.Module]
    criteria: Sequence[Criterion]
    reading: Reading

    @property
    def device(self) -> torch.device:
        """Where the student is."""
        return next(chain(self.student.parameters(), self.student.buffers())).device

    def read(self, raw: Any, *, training: bool) -> Batch:
        """Read what a loader yields onto the device; augmented if it is of the training.

        Raises:
            BadInput: another form.
        """
        return self.reading.batch(raw, device=self.device, training=training)

    def prepare(self, raw: Any) -> None:
        """Let the losses build their layers from a training batch, the student in eval mode.

        Raises:
            BadInput: shapes that cannot be paired; as `check_processes`.
        """
        with quiet(self.student), torch.no_grad():
            prepare_losses(self.criteria, self._run(self.read(raw, training=True)))
        check_processes(self.student, self.criteria)

    def step(self, raw: Any, *, weights: Mapping[str, float], training: bool) -> Step:
        """Return the weighted sum of a batch and its terms.

        Raises:
            BadInput: as `read` and `compute_step`.
            RunFailed: as `compute_step`.
        """
        batch = self.read(raw, training=training)
        return compute_step(self.criteria, *self._run(batch), labels=batch.labels, weights=weights)

    def objective(self, batch: Batch) -> Step:
        """Return what a batch without labels comes to: the criteria that need none, in eval mode.

        Schedules have no part in the weights, so that epochs can be compared.

        Raises:
            BadInput, RunFailed: as `compute_step`.
        """
        with quiet(nn.ModuleList([self.student, *(criterion.loss for criterion in self.criteria)])):
            weights = own_weights(self.criteria)
            return compute_step(self.criteria, *self._run(batch), labels=None, weights=weights)

    def evaluate(self, loader: Iterable[Any]) -> Evaluation:
        """Score the student; see `evaluate` and, for batches without labels, `objective`."""
        return evaluate(
            self.student,
            (self.read(raw, training=False) for raw in walk(loader, what="loader")),
            logits_of=self.reading.logits_of,
            who=STUDENT,
            unlabeled=self.objective,
        )

    def teacher_outputs(self, raw: Any) -> list[Outputs]:
        """Return what the teachers give for a batch that is not augmented.

        Raises:
            BadInput: batches or networks of another form.
        """
        batch = self.read(raw, training=False)
        return run_teachers(self.teachers, batch, criteria=self.criteria, reading=self.reading)

    def pretrain(self, loaders: Mapping[str, Iterable[Any]]) -> dict[str, dict[str, float]]:
        """Check that validation will tell something, and let losses learn of the teachers.

        Raises:
            BadInput: validation without labels, and no criterion that needs none; as `pretrain_losses`.
            RunFailed: as `pretrain_losses`.
        """
        first = self.read(next(walk(loaders[VAL], what="val_loader")), training=False)
        if first.labels is None and not any(one.takes(None) and one.weight > 0.0 for one in self.criteria):
            raise BadInput(
                "val_loader has no labels, and all criteria of a weight above 0 need some, so that nothing "
                "tells which epoch is the best; pass one with labels"
            )
        return pretrain_losses(
            self.criteria, self.teachers, loaders, reading=self.reading, device=self.device
        )

    def _run(self, batch: Batch) -> Sides:
        return run_networks(self.student, self.teachers, batch, criteria=self.criteria, reading=self.reading)

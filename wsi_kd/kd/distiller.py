"""Distill any teacher into any student on any loader: `Distiller`.

What `fit` does is also there in parts, for a loop of one's own: `prepare`, `training_step`, `evaluate`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsi_kd.core.device import choose_device
from wsi_kd.core.errors import BadInput
from wsi_kd.kd.augmentation import Augment
from wsi_kd.kd.batches import Adapter, walk
from wsi_kd.kd.criteria import build_criteria, weights_at
from wsi_kd.kd.evaluation import Evaluation
from wsi_kd.kd.fit_state import Facts, FitState, Learners, portable, restore_state, save_state, tensors_of
from wsi_kd.kd.fitting import (
    FitResult,
    OnEpoch,
    OptimizerFactory,
    begin_epoch,
    identify,
    make_optimizer,
    note_epoch,
    plan_epochs,
    result_of,
    train_epoch,
)
from wsi_kd.kd.lesson import Lesson
from wsi_kd.kd.networks import check_networks
from wsi_kd.kd.outputs import TRAIN, VAL, Outputs
from wsi_kd.kd.reading import Reading
from wsi_kd.kd.schedules import Schedule
from wsi_kd.kd.seeding import BEFORE_EPOCHS, PRETRAINING, loader_generators, seeded
from wsi_kd.kd.student_weights import Which, holding, write_student
from wsi_kd.kd.taps import unwrap
from wsi_kd.kd.training_step import LogitsOf, Step


class Distiller(nn.Module):
    """A student, what teaches it, and the losses between them.

    As a module it holds the student and the losses: `parameters`, `state_dict`, `train` tell of them. The
    teachers follow it to another device; they are frozen, stay in eval mode whatever mode is asked for, and
    appear in no state.

    Args:
        student: any network. Its logits are (samples, classes); see `logits_of`.
        teachers: one network or several; none ([]) where no criterion looks at a teacher.
        criteria: (loss, weight) by name; see `criteria.WeightedLoss`.
        optimizer: makes the optimizer from the parameters to train: the student's and those of the losses.
        layers: (student's layer, teacher's layer) by the name of the criterion that reads features of them.
        weight_schedules: by the name of a criterion, what multiplies its weight; see `schedules`.
        learning_rate_schedule: what multiplies the optimizer's learning rates.
        device: auto, cpu, cuda or cuda:N; the networks are moved there.
        seed: of what `fit` draws (order of samples, dropout, augmentation, layers of the losses).
        adapter: from what a loader yields to (inputs, labels), where that is neither (inputs, labels) nor a
            dict of them; labels are None where unknown.
        augment: from (inputs, labels) of a training batch to those that are learned from, before student and
            teachers see them; see `augmentation`. Labels may be None.
        teacher_input: from the student's inputs to the teacher's (resize, normalize anew). Without it both
            see the same tensor, augmentation included.
        logits_of: from what the networks give to their logits, where that is no tensor and has no `logits`.

    Raises:
        BadInput: whatever can be seen to be wrong before the first batch: names, layers, weights, losses that
            do not fit the number of teachers, a teacher that shares parameters with the student.
    """

    def __init__(
        self,
        student: nn.Module,
        teachers: nn.Module | Sequence[nn.Module],
        *,
        criteria: Mapping[str, Any],
        optimizer: OptimizerFactory,
        layers: Mapping[str, Any] | None = None,
        weight_schedules: Mapping[str, Schedule] | None = None,
        learning_rate_schedule: Schedule | None = None,
        device: str = "cpu",
        seed: int = 0,
        adapter: Adapter | None = None,
        augment: Augment | None = None,
        teacher_input: Callable[[Any], Any] | None = None,
        logits_of: LogitsOf | None = None,
    ) -> None:
        super().__init__()
        self._teachers = (teachers,) if isinstance(teachers, nn.Module) else tuple(teachers)
        self._criteria = build_criteria(
            criteria, layers=layers, weight_schedules=weight_schedules, teachers=len(self._teachers)
        )
        check_networks(student, self._teachers, self._criteria)
        self.student = student
        self.criteria = nn.ModuleDict({criterion.name: criterion.loss for criterion in self._criteria})
        self._make_optimizer, self.learning_rate_schedule = optimizer, learning_rate_schedule
        self.seed, self._reading = seed, Reading(adapter, augment, teacher_input, logits_of)
        self._state: FitState | None = None
        for teacher in self._teachers:
            teacher.requires_grad_(requires_grad=False)
        self.to(choose_device(device)).train()

    @property
    def device(self) -> torch.device:
        """Where the student is."""
        return self.lesson.device

    @property
    def lesson(self) -> Lesson:
        """What another loop over epochs needs beside `training_step`: the criteria, how batches are read."""
        return Lesson(self.student, self._teachers, self._criteria, self._reading)

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer; there is one after `prepare`."""
        return self._prepared().optimizer

    def train(self, mode: bool = True) -> "Distiller":  # noqa: FBT001, FBT002  # the signature of torch
        """Set the mode of student and losses; the teachers stay in eval mode."""
        super().train(mode)
        for teacher in self._teachers:
            teacher.eval()
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Distiller":  # noqa: FBT001, FBT002  # as torch
        """Move or cast the teachers too: what `to`, `cuda` and `half` come down to."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's is untyped
        for teacher in self._teachers:
            teacher._apply(fn, recurse)  # type: ignore[no-untyped-call]  # as above
        return self

    def prepare(self, batch: Any) -> None:
        """Build what depends on shapes from one batch, and the optimizer; a second call does nothing.

        `fit` does it with the first batch. Before it `parameters` lacks the layers that losses learn.

        Raises:
            BadInput: shapes that cannot be paired, a factory that makes no optimizer.
        """
        if self._state is not None:
            return
        with seeded(self.seed, BEFORE_EPOCHS, device=self.device):
            self.lesson.prepare(batch)
        self.criteria.to(self.device)
        optimizer = make_optimizer(self._make_optimizer, self.parameters())
        identity = identify(self._criteria, optimizer, augment=self._reading.augment, seed=self.seed)
        self._state = FitState(self, Learners(self.student, self.criteria), optimizer, identity)

    def forward(self, batch: Any, progress: float = 0.0) -> Step:
        """Do as `training_step`, so that wrappers of modules (DistributedDataParallel) can call it."""
        return self.training_step(batch, progress=progress)

    def training_step(self, batch: Any, *, progress: float = 0.0) -> Step:
        """Return the loss of a batch as a loader yields it, and its named terms; update nothing.

        In training mode the batch is augmented first. `progress`, the share of the training done, is what
        weight schedules are asked with.

        Raises:
            BadInput: not prepared; a batch that cannot be read or has too few labels; a teacher whose outputs
                are not finite; what the losses raise.
            RunFailed: the student's outputs or a loss are not finite.
        """
        self._prepared()
        weights = weights_at(self._criteria, progress)
        return self.lesson.step(batch, weights=weights, training=self.training)

    def pretrain(self, train_loader: Iterable[Any], val_loader: Iterable[Any]) -> dict[str, dict[str, float]]:
        """Let losses that learn of the teacher before the student does learn now; a second call does nothing.

        `fit` does it, before its first epoch. It prepares too, with the first batch of `train_loader`.

        Returns:
            Figures to tell, by name, of each such criterion.

        Raises:
            BadInput: as `prepare`; a loss that learns from validation labels where there are none; no labels
                there, and no criterion that needs none; what the losses raise.
            RunFailed: a loss has not learned what it should.
        """
        self._begin(train_loader)
        state = self._prepared()
        if state.pretrained is None:
            self.train()
            with seeded(self.seed, PRETRAINING, device=self.device):
                state.pretrained = self.lesson.pretrain({TRAIN: train_loader, VAL: val_loader})
        return state.pretrained

    def fit(
        self,
        train_loader: Iterable[Any],
        val_loader: Iterable[Any],
        *,
        epochs: int,
        state_path: Path | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> FitResult:
        """Train until `epochs` epochs are done in all, those of earlier calls and of `state_path` included.

        Afterwards the student has the weights of the last epoch; those of the best one on the validation part
        are what `which="best"` means. Never pass the test part as `val_loader`.

        Args:
            train_loader: yields batches anew every time it is walked.
            val_loader: as well. Without labels the best epoch is that of the lowest weighted sum of the
                criteria that need none; schedules have no part in it, so that epochs can be compared.
            epochs: at least 1.
            state_path: file to go on from, if it is there, and to write after every epoch; the result is the
                same to the last bit whether or not the training was interrupted (one process, same machine;
                a data set that draws must not be in persistent workers, whose state nothing can restore).
            on_epoch: told the history's row of each epoch.

        Raises:
            BadInput: as `prepare` and `training_step`; a damaged file, or one of another distillation.
            RunFailed: as `training_step`; the disk is full.
        """
        plan = plan_epochs(self._criteria, self.learning_rate_schedule, epochs=epochs)
        self._begin(train_loader)
        state, generators = self._prepared(), loader_generators(train_loader, val_loader)
        if state_path is not None and state_path.is_file():
            restore_state(state, state_path, generators=generators, plan=plan)
        self.pretrain(train_loader, val_loader)
        while state.epoch < epochs:
            with seeded(self.seed, state.epoch + 1, device=self.device):
                self._epoch(train_loader, val_loader, rates=plan[state.epoch], progress=state.epoch / epochs)
            if state_path is not None:
                save_state(state, state_path, generators=generators, plan=plan[: state.epoch])
            if on_epoch is not None:
                on_epoch(state.history[-1])
        return result_of(state)

    def evaluate(self, loader: Iterable[Any], *, which: Which = "last") -> Evaluation:
        """Score the student as it is ("last") or as it was at its best.

        With labels by accuracy and cross entropy; without by the weighted sum of the criteria that need none.

        Raises:
            BadInput: labels in some batches only; none, and no criterion that needs none; "best" before any
                epoch.
        """
        with holding(self._state, which=which):
            return self.lesson.evaluate(loader)

    def student_state(self, *, which: Which = "last") -> dict[str, Tensor]:
        """Return copies of the student's weights on the CPU, named as without wrappers.

        Raises:
            BadInput: "best" before any epoch.
            RunFailed: weights that are no tensors.
        """
        with holding(self._state, which=which):
            return portable(tensors_of(unwrap(self.student)))

    def export(self, path: Path, *, which: Which = "last") -> None:
        """Write the student's weights, and nothing of teachers or losses, as safetensors.

        `student.load_state_dict(safetensors.torch.load_file(path))` reads them.

        Raises:
            BadInput: "best" before any epoch.
            RunFailed: weights that are no tensors, a full disk.
        """
        write_student(self.student_state(which=which), path)

    def teacher_outputs(self, loader: Iterable[Any]) -> Iterator[list[Outputs]]:
        """Yield what each teacher gives for each batch, such as `outputs[0].features["ft"]`; see `pretrain`.

        Raises:
            BadInput: batches or networks of another form.
        """
        for raw in walk(loader, what="loader"):
            yield self.lesson.teacher_outputs(raw)

    def _epoch(
        self, train_loader: Iterable[Any], val_loader: Iterable[Any], *, rates: Facts, progress: float
    ) -> None:
        state = self._prepared()
        begin_epoch(state, train_loader, factor=rates["learning rate factor"])
        self.train()
        step = partial(self.training_step, progress=progress)
        trained = train_epoch(train_loader, step, state.optimizer, criteria=self._criteria)
        note_epoch(state, trained=trained, scored=self.evaluate(val_loader))

    def _begin(self, train_loader: Iterable[Any]) -> None:
        if self._state is None:
            with seeded(self.seed, BEFORE_EPOCHS, device=self.device):
                self.prepare(next(walk(train_loader, what="train_loader")))

    def _prepared(self) -> FitState:
        if self._state is None:
            raise BadInput(
                "the distiller is not prepared; call prepare(batch) with a batch of the loader before an "
                "optimizer is made of its parameters, as losses build layers of their own"
            )
        return self._state

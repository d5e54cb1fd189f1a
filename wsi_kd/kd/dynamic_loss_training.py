"""Learning to teach: student, loss network and LSTM teacher learn in three stages that take turns.

    1 student        theta <- theta - a grad L_phi(theta)                       every training batch
    2 loss network   phi <- phi + LSTM_w(d e / d phi), e of a teaching batch    every `inner_steps` batches
    3 teacher        w <- w - b grad_w sum of M such e                          every `window` of those

with L_phi the weighted sum of the criteria, `DynamicLoss` among them, and e the cross entropy with the labels
of the teaching part. The student moves once a training batch, as in any other training: what stages 2 and 3
need is read off the steps that it makes anyway, so that baselines can be compared at equal student steps.

**Two parts for validation.** The teaching part's labels shape the loss: they are learned from, and cannot
also choose the best epoch. That is what the validation part is for; the two must share no sample.

**Buffers and modes.** Training batches run in training mode and move the statistics of batch norm, as ever.
Teaching batches run in eval mode: no dropout, the running statistics used as they are and left as they are.

**Distillation.** A teacher network is not needed. Where there is one, its losses (`KdLoss`) are further
criteria of the `Distiller`: they stand in L_phi with their weights, and the dynamic loss learns what to add
to them.

Source: Hai et al., "L2T-DLN: learning to teach with dynamic loss network", NeurIPS 2023.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.batches import walk
from wsi_kd.kd.distiller import Distiller
from wsi_kd.kd.dynamic_loss_pupil import Pupil
from wsi_kd.kd.dynamic_loss_teacher import CoordinateLstm, LossTeacher, Memory, TaughtLoss
from wsi_kd.kd.dynamic_loss_validation import check_apart
from wsi_kd.kd.evaluation import Evaluation
from wsi_kd.kd.fit_state import (
    Facts,
    FitState,
    HistoryRow,
    Learners,
    restore_state,
    save_state,
)
from wsi_kd.kd.fitting import (
    FitResult,
    Means,
    OnEpoch,
    OptimizerFactory,
    begin_epoch,
    identify,
    make_optimizer,
    note_epoch,
    plan_epochs,
    result_of,
)
from wsi_kd.kd.seeding import loader_generators, seeded
from wsi_kd.kd.student_weights import Which, holding, write_student

TEACHING_LOSS: Final = "teaching_loss"
"""The history's column of e."""


class LearningToTeach(nn.Module):
    """Trains the student of a `Distiller` that has a `DynamicLoss` among its criteria.

        criteria = {"ce": (CrossEntropyLoss(), 1.0), "dynamic": (DynamicLoss(), 1.0)}
        distiller = Distiller(student, [], criteria=criteria, optimizer=sgd)
        result = LearningToTeach(distiller).fit(train_loader, teaching_loader, val_loader, epochs=40)

    The student's optimizer must be SGD, as its steps are differentiated; momentum, weight decay and nesterov
    are known. The distiller's own `fit` is not used.

    Args:
        distiller: student, criteria, optimizer, seed, schedules, adapters.
        teacher: what changes the loss; default: `CoordinateLstm()`.
        optimizer: of the teacher's parameters; default: Adam with learning rate 0.01.
        inner_steps: N, training batches between two changes of the loss. The graph of N steps is in memory.
        window: M, changes of the loss that the teacher learns from at once.

    Raises:
        BadInput: no dynamic loss of a weight above 0, or several; a number below 1.
    """

    def __init__(
        self,
        distiller: Distiller,
        *,
        teacher: LossTeacher | None = None,
        optimizer: OptimizerFactory | None = None,
        inner_steps: int = 1,
        window: int = 4,
    ) -> None:
        super().__init__()
        if min(inner_steps, window) < 1:
            raise BadInput(f"inner_steps is {inner_steps} and window {window}; both must be at least 1")
        if TEACHING_LOSS in distiller.criteria:
            raise BadInput(f"criterion '{TEACHING_LOSS}': the history has a column of that name; rename it")
        self.pupil = Pupil(distiller)
        self.teacher = (CoordinateLstm() if teacher is None else teacher).to(distiller.device)
        self._optimizer = _adam if optimizer is None else optimizer
        self._inner_steps, self._window = inner_steps, window
        self._state: FitState | None = None

    def fit(
        self,
        train_loader: Iterable[Any],
        teaching_loader: Iterable[Any],
        val_loader: Iterable[Any],
        *,
        epochs: int,
        state_path: Path | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> FitResult:
        """Train until `epochs` epochs are done in all; as `Distiller.fit`, resume to the same bits included.

        An epoch is one walk of `train_loader`; the last change of the loss in it may follow fewer batches
        than `inner_steps`. The history has the column `teaching_loss`, the mean of e.

        Args:
            train_loader: what the student learns from.
            teaching_loader: what the loss learns from: few samples, with labels to be trusted. One batch of
                it is drawn for each change of the loss.
            val_loader: what chooses the best epoch; no sample of `teaching_loader`.
            epochs: at least 1.
            state_path: as of `Distiller.fit`; the file holds the teacher, its memory and its optimizer too.
            on_epoch: told the history's row of each epoch.

        Raises:
            BadInput: shared samples, as far as loaders show it; another optimizer than SGD; a layer or loss
                that cannot be differentiated twice; as `Distiller.fit`.
            RunFailed: a term, the teaching part's loss or its gradient is not finite; as `Distiller.fit`.
        """
        check_apart(teaching_loader, val_loader)
        distiller = self.pupil.distiller
        plan = plan_epochs(distiller.lesson.criteria, distiller.learning_rate_schedule, epochs=epochs)
        state = self._begin(train_loader, val_loader)
        generators = loader_generators(train_loader, teaching_loader, val_loader)
        if state_path is not None and state_path.is_file():
            restore_state(state, state_path, generators=generators, plan=plan)
        while state.epoch < epochs:
            rate, progress = plan[state.epoch]["learning rate factor"], state.epoch / epochs
            factor = 1.0 if rate is None else float(rate)
            with seeded(distiller.seed, state.epoch + 1, device=distiller.device):
                begin_epoch(state, train_loader, factor=None)
                trained = self._epoch(train_loader, teaching_loader, factor=factor, progress=progress)
                note_epoch(state, trained=trained, scored=self.evaluate(val_loader))
            if state_path is not None:
                save_state(state, state_path, generators=generators, plan=plan[: state.epoch])
            if on_epoch is not None:
                on_epoch(state.history[-1])
        return result_of(state)

    def evaluate(self, loader: Iterable[Any], *, which: Which = "last") -> Evaluation:
        """Score the student as it is ("last") or as it was at its best; as `Distiller.evaluate`."""
        with holding(self._state, which=which):
            return self.pupil.distiller.evaluate(loader)

    def student_state(self, *, which: Which = "last") -> dict[str, Tensor]:
        """Return copies of the student's weights on the CPU; as `Distiller.student_state`."""
        with holding(self._state, which=which):
            return self.pupil.distiller.student_state()

    def export(self, path: Path, *, which: Which = "last") -> None:
        """Write the student's weights, and nothing else, as safetensors; as `Distiller.export`."""
        write_student(self.student_state(which=which), path)

    def _begin(self, train_loader: Iterable[Any], val_loader: Iterable[Any]) -> FitState:
        """Build what depends on shapes, let losses that learn first do so, and start a state."""
        if self._state is not None:
            return self._state
        distiller = self.pupil.distiller
        pretrained = distiller.pretrain(train_loader, val_loader)  # it prepares the distiller too
        self.pupil.prepare()
        memory = self.teacher.start(len(self.pupil.loss_numbers))
        for name, part in memory._asdict().items():
            self.register_buffer(f"memory_{name}", part.detach().to(distiller.device))
        learned = [parameter for parameter in self.teacher.parameters() if parameter.requires_grad]
        # the student's optimizer only tells the rules: where nothing else learns it stands for none
        optimizer = make_optimizer(self._optimizer, learned) if learned else distiller.optimizer
        learners = Learners(distiller.student, distiller.criteria)
        self._state = FitState(self, learners, optimizer, self._identity(optimizer))
        self._state.pretrained = pretrained
        return self._state

    def _epoch(
        self, train_loader: Iterable[Any], teaching_loader: Iterable[Any], *, factor: float, progress: float
    ) -> HistoryRow:
        """Walk the training part once; return the row's means."""
        pupil, means = self.pupil, Means()
        pupil.distiller.train()
        taught = self._taught_loss()
        teaching = _endless(teaching_loader)
        for batches in _groups(walk(train_loader, what="train_loader"), self._inner_steps):
            probe = pupil.probe(batches, next(teaching), factor=factor, progress=progress)
            pupil.take(probe.moved)
            taught.update(probe.gradient)
            pupil.change_loss(taught.values)
            for step in probe.moved.steps:
                means.add(step)
            means.note(TEACHING_LOSS, probe.loss, samples=1)
        taught.settle()
        for name, part in taught.memory._asdict().items():
            self.get_buffer(f"memory_{name}").copy_(part)
        rates = [rule.learning_rate for rule in pupil.rules.values()]
        return {"learning_rate": factor * rates[0], **means.row(pupil.distiller.lesson.criteria)}

    def _taught_loss(self) -> TaughtLoss:
        learned = None if self._state is None else self._state.optimizer
        return TaughtLoss(
            self.teacher,
            None if learned is self.pupil.distiller.optimizer else learned,
            window=self._window,
            values=self.pupil.loss_numbers,
            memory=Memory(*(self.get_buffer(f"memory_{name}").clone() for name in Memory._fields)),
        )

    def _identity(self, optimizer: torch.optim.Optimizer) -> Facts:
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        distiller = self.pupil.distiller
        lesson = distiller.lesson
        return {
            **identify(
                lesson.criteria, distiller.optimizer, augment=lesson.reading.augment, seed=distiller.seed
            ),
            "student's steps": sorted({json.dumps(rule) for rule in self.pupil.rules.values()}),
            "teacher": f"{type(self.teacher).__name__} {json.dumps(self.teacher.settings)}",
            "teacher's optimizer": f"{type(optimizer).__name__} {rates}",
            "inner steps": self._inner_steps,
            "window": self._window,
        }


def _endless(loader: Iterable[Any]) -> Iterator[Any]:
    while True:
        yield from walk(loader, what="teaching_loader")


def _groups(batches: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while group := list(islice(batches, size)):
        yield group


def _adam(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.01)

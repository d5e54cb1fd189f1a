"""The loop over epochs: train, validate, keep the best, save."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.augmentation import Augment, describe_augment
from wsi_kd.kd.batches import walk
from wsi_kd.kd.criteria import Criterion, weights_at
from wsi_kd.kd.evaluation import Evaluation
from wsi_kd.kd.fit_state import Best, Facts, FitState, HistoryRow, portable, tensors_of
from wsi_kd.kd.schedules import Schedule
from wsi_kd.kd.taps import unwrap
from wsi_kd.kd.training_step import Step

OptimizerFactory: TypeAlias = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
OnEpoch: TypeAlias = Callable[[HistoryRow], None]


class FitResult(NamedTuple):
    """What a training comes to."""

    history: list[HistoryRow]
    """One row an epoch: loss and criteria (means over samples, weights not inside), and the validation's.

    There is a `val_accuracy` only where the validation part has labels.
    """
    last: Evaluation
    """Of the last epoch's student on the validation part."""
    best: Evaluation
    """Of the best epoch's: highest accuracy, at the same the lowest loss; the first of equals. Without labels
    the lowest loss, which then is the weighted sum of the criteria."""
    best_epoch: int
    """Counted from 0."""
    pretrained: dict[str, dict[str, float]]
    """Figures of the losses that learned before the student, by criterion."""

    @property
    def selected_by(self) -> Literal["accuracy", "criteria"]:
        """What chose the best epoch; criteria where the validation part has no labels."""
        return "criteria" if self.best.accuracy is None else "accuracy"


def make_optimizer(factory: OptimizerFactory, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Make the optimizer of those parameters that are not frozen.

    Raises:
        BadInput: the factory makes something else.
    """
    optimizer: Any = factory([parameter for parameter in parameters if parameter.requires_grad])
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise BadInput(
            f"optimizer= made {type(optimizer).__name__}; expected a function from parameters to a torch "
            "optimizer, such as lambda parameters: torch.optim.AdamW(parameters, lr=1e-3)"
        )
    return optimizer


def plan_epochs(
    criteria: Sequence[Criterion], learning_rates: Schedule | None, *, epochs: int
) -> list[Facts]:
    """Return what schedules say of each epoch, asked with the share of epochs done before it.

    Raises:
        BadInput: no epochs, or one without any weight.
    """
    if epochs < 1:
        raise BadInput(f"epochs is {epochs}; expected at least 1")
    shares = [epoch / epochs for epoch in range(epochs)]
    factors = [None if learning_rates is None else float(learning_rates(share)) for share in shares]
    return [
        {"learning rate factor": factor, "weights": weights_at(criteria, share)}
        for factor, share in zip(factors, shares, strict=True)
    ]


def identify(
    criteria: Sequence[Criterion], optimizer: torch.optim.Optimizer, *, augment: Augment | None, seed: int
) -> Facts:
    """Return what tells one distillation from another, whose state must not be mixed up with it."""
    return {
        "seed": seed,
        "augmentation": describe_augment(augment),
        "criteria": {criterion.described: criterion.settings for criterion in criteria},
        "optimizer": type(optimizer).__name__,
        "learning rates": [float(group["lr"]) for group in optimizer.param_groups],
    }


def begin_epoch(state: FitState, loader: Iterable[Any], *, factor: float | None) -> None:
    """Multiply the learning rates that the optimizer was made with; tell a sampler which epoch it is.

    Samplers that draw by the epoch (DistributedSampler) have `set_epoch`. Without a factor the rates stay.
    """
    if factor is not None:
        bases = state.identity["learning rates"]
        for group, base in zip(state.optimizer.param_groups, bases, strict=True):
            group["lr"] = base * factor
    set_epoch = getattr(getattr(loader, "sampler", None), "set_epoch", None)
    if set_epoch is not None:
        set_epoch(state.epoch)


def train_epoch(
    loader: Iterable[Any],
    step: Callable[[Any], Step],
    optimizer: torch.optim.Optimizer,
    *,
    criteria: Sequence[Criterion],
) -> HistoryRow:
    """Update on every batch once; return the means over the samples.

    Raises:
        BadInput: a criterion was left out of every batch, as it needs labels or batches without any.
    """
    means = Means()
    for batch in walk(loader, what="train_loader"):
        said = step(batch)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(said.loss)
        optimizer.step()
        means.add(said)
    return means.row(criteria)


class Means:
    """What an epoch's training batches said, over the samples."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, step: Step) -> None:
        """Add a batch: its loss and terms, as many times as it has samples."""
        for name, value in {"loss": step.loss, **step.terms}.items():
            self.note(name, value, samples=len(step.logits))

    def note(self, name: str, value: Float[Tensor, ""], *, samples: int) -> None:
        """Add a value that stands for so many samples; no device is waited for."""
        self._sums[name] = self._sums.get(name, 0.0) + value.detach().double() * samples
        self._counts[name] = self._counts.get(name, 0) + samples

    def row(self, criteria: Sequence[Criterion]) -> HistoryRow:
        """Return the means: of the loss, of the criteria, of what else was noted.

        Raises:
            BadInput: a criterion was left out of every batch, as it needs labels or batches without any.
        """
        for criterion in criteria:
            if criterion.name not in self._sums:
                raise BadInput(
                    f"{criterion.described}: it needs {criterion.wants}, and train_loader yielded none; "
                    "take it out"
                )
        # in this order, then what else was noted
        names = dict.fromkeys(["loss", *(criterion.name for criterion in criteria), *self._sums])
        return {name: self._sums[name].item() / self._counts[name] for name in names}


def note_epoch(state: FitState, *, trained: HistoryRow, scored: Evaluation) -> None:
    """Add an epoch to the state; keep the weights of student and losses if it is the best so far.

    Raises:
        BadInput: this epoch's validation had labels and earlier ones had none, or the other way round.
    """
    if scored.beats(state.best and state.best.evaluation):
        kept = [
            portable(tensors_of(module)) for module in (unwrap(state.learners.student), state.learners.losses)
        ]
        state.best = Best(state.epoch, scored, *kept)
    rate = float(state.optimizer.param_groups[0]["lr"])
    row: HistoryRow = {"epoch": state.epoch, "learning_rate": rate, **trained, "val_loss": scored.loss}
    if scored.accuracy is not None:
        row["val_accuracy"] = scored.accuracy
    state.history.append(row)
    state.epoch += 1


def result_of(state: FitState) -> FitResult:
    """Return what a state with at least one epoch comes to."""
    if state.best is None:
        raise TypeError("no epoch was trained")
    row, best = state.history[-1], state.best.evaluation
    last = Evaluation(row.get("val_accuracy"), row["val_loss"], best.samples)
    return FitResult(list(state.history), last, best, state.best.epoch, state.pretrained or {})

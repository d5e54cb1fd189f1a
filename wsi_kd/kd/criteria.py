"""The named losses of a distillation: checked before the first step, weighted at every one."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, unknown_name
from wsi_kd.kd.outputs import FEATURES, LABELS, LEARNS_FROM, NEEDS, TEACHERS, UNLABELED, DistillationLoss
from wsi_kd.kd.schedules import Schedule

WeightedLoss: TypeAlias = tuple[DistillationLoss, float]
LayerPair: TypeAlias = tuple[str, str | Sequence[str]]
"""The student's layer and the teacher's; of several teachers one name for all, or a name each."""
NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
RESERVED: Final = frozenset({"loss", "epoch", "learning_rate", "val_loss", "val_accuracy"})
"""Columns of a history that are no criterion's."""


class Criterion(NamedTuple):
    """One loss with all that belongs to it."""

    name: str
    loss: DistillationLoss
    weight: float
    schedule: Schedule | None
    student_layer: str | None
    teacher_layers: tuple[str, ...]
    """One a teacher; empty for losses that read no features."""

    def takes(self, labels: Tensor | None) -> bool:
        """Whether it is computed of a batch with these labels, or without any (None)."""
        return (UNLABELED if labels is not None else LABELS) not in self.loss.needs

    @property
    def wants(self) -> str:
        """Which batches it is computed of, for error messages."""
        return "batches without labels" if UNLABELED in self.loss.needs else "labels"

    @property
    def described(self) -> str:
        """Name, loss and layers, for error messages."""
        layers = ""
        if self.student_layer is not None:
            theirs = ", ".join(f"'{layer}'" for layer in self.teacher_layers)
            layers = f" of the student's layer '{self.student_layer}' and the teacher's {theirs}"
        return f"criterion '{self.name}' ({type(self.loss).__name__}{layers})"

    @property
    def settings(self) -> dict[str, bool | int | float | str]:
        """What the loss was built with, as far as its public attributes are plain values."""
        return {
            name: value
            for name, value in sorted(vars(self.loss).items())
            if isinstance(value, bool | int | float | str) and name != "training" and name[0] != "_"
        }

    def weight_at(self, progress: float) -> float:
        """Return the weight at a share of the training done: times what its schedule says."""
        factor = 1.0 if self.schedule is None else self.schedule(progress)
        if not (math.isfinite(factor) and factor >= 0.0):
            raise BadInput(
                f"weight schedule of '{self.name}': {factor} at {progress:g} of the training; "
                "expected a number of at least 0"
            )
        return self.weight * factor


def build_criteria(
    criteria: Mapping[str, Any],
    *,
    layers: Mapping[str, Any] | None,
    weight_schedules: Mapping[str, Schedule] | None,
    teachers: int,
) -> list[Criterion]:
    """Put together what belongs to each loss; a loss on features learns its pair's name.

    `criteria` holds a `WeightedLoss` by name, `layers` a `LayerPair`; anything else is refused with a reason.

    Raises:
        BadInput: no criteria, names that cannot be used or that no criterion has, something that is no loss,
            weights that are no weights or sum to nothing, layers that are missing or not wanted, a loss that
            cannot deal with this number of teachers.
    """
    if not criteria:
        raise BadInput("criteria: there are none; pass criteria={'kd': (KdLoss(temperature=4.0), 1.0)}")
    layers, weight_schedules = layers or {}, weight_schedules or {}
    for kind, named in (("layers", layers), ("weight_schedules", weight_schedules)):
        for name in named:
            if name not in criteria:
                raise unknown_name(f"criterion in {kind}", name, criteria)
    built = [
        _build(name, entry, pair=layers.get(name), schedule=weight_schedules.get(name), teachers=teachers)
        for name, entry in criteria.items()
    ]
    _check_distinct(built)
    if sum(criterion.weight for criterion in built) == 0.0:
        raise BadInput("criteria: all weights are 0, so there is nothing to learn; give one a weight above 0")
    return built


def weights_at(criteria: Sequence[Criterion], progress: float) -> dict[str, float]:
    """Return the weight of each criterion at a share of the training done.

    Raises:
        BadInput: their sum is 0, or a schedule gives no weight.
    """
    weights = {criterion.name: criterion.weight_at(progress) for criterion in criteria}
    if sum(weights.values()) == 0.0:
        raise BadInput(
            f"criteria: all weights are 0 at {progress:g} of the training, so there is nothing to learn; "
            "change weight_schedules or train for fewer epochs"
        )
    return weights


def own_weights(criteria: Sequence[Criterion]) -> dict[str, float]:
    """Return the weights without what schedules say, so that sums of different epochs can be compared."""
    return {criterion.name: criterion.weight for criterion in criteria}


def _build(name: str, entry: Any, *, pair: Any, schedule: Schedule | None, teachers: int) -> Criterion:
    if not NAME.fullmatch(name) or name in RESERVED or hasattr(nn.ModuleDict, name):
        raise BadInput(f"criterion '{name}': not a usable name; take another one of letters, digits and _")
    if not (isinstance(entry, tuple | list) and len(entry) == 2 and isinstance(entry[0], DistillationLoss)):  # noqa: PLR2004  # loss and weight
        raise BadInput(
            f"criterion '{name}': expected (loss, weight) with a DistillationLoss, found {_kinds(entry)}; "
            "CrossEntropyLoss of wsi_kd.kd.losses.task is that of the labels"
        )
    loss, weight = entry
    if not (isinstance(weight, int | float) and math.isfinite(weight) and weight >= 0.0):
        raise BadInput(f"criterion '{name}': weight {weight!r}; expected a number of at least 0")
    student_layer, teacher_layers = _layers(name, loss, pair, teachers=teachers)
    criterion = Criterion(name, loss, float(weight), schedule, student_layer, teacher_layers)
    _check_needs(criterion, teachers=teachers)
    loss.pair = name if pair is not None else ""
    return criterion


def _layers(
    name: str, loss: DistillationLoss, pair: Any, *, teachers: int
) -> tuple[str | None, tuple[str, ...]]:
    wanted = FEATURES in loss.needs
    if not wanted and pair is not None:
        raise BadInput(f"layers['{name}']: {type(loss).__name__} reads no features; take the pair out")
    if not wanted:
        return None, ()
    form = f"layers={{'{name}': (student_layer, teacher_layer)}}"
    if pair is None:
        raise BadInput(f"criterion '{name}': {type(loss).__name__} reads features; pass {form}")
    if not (isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], str)):  # noqa: PLR2004  # student and teacher
        raise BadInput(f"layers['{name}']: found {pair!r}; pass {form}")
    theirs = (pair[1],) * teachers if isinstance(pair[1], str) else tuple(pair[1])
    if len(theirs) != teachers:
        raise BadInput(f"layers['{name}']: {len(theirs)} layers for {teachers} teachers; name one for each")
    return pair[0], theirs


def _check_needs(criterion: Criterion, *, teachers: int) -> None:
    loss = criterion.loss
    for need in loss.needs - NEEDS:
        raise unknown_name(f"need of {type(loss).__name__}", need, NEEDS)
    if loss.learns_from not in LEARNS_FROM:
        raise unknown_name(
            f"learns_from of {type(loss).__name__}", loss.learns_from, filter(None, LEARNS_FROM)
        )
    if loss.learns_from and not loss.reads_teacher:
        raise BadInput(
            f"{criterion.described}: it says that it learns from the teacher's outputs beforehand, and that "
            "it never looks at a teacher; set reads_teacher = True"
        )
    if loss.reads_teacher and teachers == 0:
        raise BadInput(f"{criterion.described}: it learns from a teacher, and there is none; pass one")
    if loss.reads_teacher and teachers > 1 and TEACHERS not in loss.needs:
        raise BadInput(
            f"{criterion.described}: it learns from one teacher, and there are {teachers}; "
            'take a loss that needs "teachers", or pass one teacher'
        )


def _check_distinct(criteria: Sequence[Criterion]) -> None:
    owners: dict[int, str] = {}
    for criterion in criteria:
        other = owners.setdefault(id(criterion.loss), criterion.name)
        if other != criterion.name:
            raise BadInput(f"criteria '{other}' and '{criterion.name}' are one object; build a loss for each")


def _kinds(entry: Any) -> str:
    if isinstance(entry, tuple | list):
        return f"({', '.join(type(item).__name__ for item in entry)})"
    return type(entry).__name__

"""A distiller whose student's steps are known as functions of its dynamic loss."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.criteria import Criterion
from wsi_kd.kd.distiller import Distiller
from wsi_kd.kd.dynamic_loss import DynamicLoss
from wsi_kd.kd.dynamic_loss_steps import (
    Moved,
    SgdRule,
    Tensors,
    advance,
    check_differentiable_twice,
    gradient_in,
    pack,
    read_rules,
    unpack,
)
from wsi_kd.kd.dynamic_loss_validation import ValidationLoss


class Probe(NamedTuple):
    """Where the student goes, and what the loss has to do with it."""

    moved: Moved
    loss: Float[Tensor, ""]
    """e, of the student after its steps; detached."""
    gradient: Float[Tensor, " coordinates"]
    """Of e in the numbers of the loss network."""


class Pupil(nn.Module):
    """Student and criteria of a distiller, moved by SGD through functional calls.

    As a module it holds the distiller and the student's momenta.

    Raises:
        BadInput: no dynamic loss of a weight above 0 among the criteria, or several.
    """

    def __init__(self, distiller: Distiller) -> None:
        super().__init__()
        self.distiller = distiller
        found = find_dynamic_loss(distiller.lesson.criteria)
        self._loss = {f"criteria.{found.name}.{name}": value for name, value in found.loss.named_parameters()}
        # in a tuple, as the student would stand in the state twice
        self._validation = (ValidationLoss(distiller.student, distiller.lesson.reading),)
        self._rules: dict[str, SgdRule] = {}
        self._moved: Tensors = {}
        self._checked = False

    def prepare(self) -> None:
        """Read off the distiller's optimizer how the student moves; a second call does nothing.

        Raises:
            BadInput: the distiller is not prepared; another optimizer than SGD.
        """
        if self._rules:
            return
        named = dict(self.distiller.named_parameters())
        self._rules = read_rules(self.distiller.optimizer, {id(value): name for name, value in named.items()})
        self._moved = {name: value for name, value in named.items() if name in self._rules}
        for number, parameter in enumerate(self._moved.values()):
            self.register_buffer(f"momentum_{number}", torch.zeros_like(parameter))

    @property
    def rules(self) -> dict[str, SgdRule]:
        """How each parameter is moved, by name; empty before `prepare`."""
        return self._rules

    @property
    def loss_numbers(self) -> Float[Tensor, " coordinates"]:
        """Those of the dynamic loss, in one row, copied: phi."""
        return pack(self._loss)

    @property
    def momenta(self) -> Tensors:
        """Of what is moved, by name."""
        return {name: self.get_buffer(f"momentum_{number}") for number, name in enumerate(self._moved)}

    def probe(
        self, batches: Sequence[Any], teaching_batch: Any, *, factor: float = 1.0, progress: float = 0.0
    ) -> Probe:
        """Move the student over training batches in thought; tell what the loss has to do with it.

        Nothing is changed but what any pass changes: the statistics of batch norm, random generators.
        `factor` multiplies the learning rates; `progress` is the share of the training done.

        Raises:
            BadInput: not prepared; batches that cannot be read; what cannot be differentiated twice.
            RunFailed: a term or e is not finite.
        """
        if not self._rules:
            raise BadInput("the pupil is not prepared; call distiller.prepare(batch), then pupil.prepare()")
        numbers = self.loss_numbers.requires_grad_()
        moved = advance(
            self.distiller,
            batches,
            parameters=self._moved,
            momenta=self.momenta,
            loss_parameters=unpack(numbers, self._loss),
            rules=self._rules,
            factor=factor,
            progress=progress,
        )
        loss = self._validation[0].of(moved.parameters, teaching_batch)
        if not self._checked:
            check_differentiable_twice(loss, [numbers, *self._moved.values()])
            self._checked = True
        return Probe(moved, loss.detach(), gradient_in(loss, numbers))

    @torch.no_grad()
    def take(self, moved: Moved) -> None:
        """Put the student where it went."""
        momenta = self.momenta
        for name, value in self._moved.items():
            value.copy_(moved.parameters[name])
            momenta[name].copy_(moved.momenta[name])

    @torch.no_grad()
    def change_loss(self, numbers: Float[Tensor, " coordinates"]) -> None:
        """Put numbers into the loss network."""
        for name, value in unpack(numbers, self._loss).items():
            self._loss[name].copy_(value)


def find_dynamic_loss(criteria: Sequence[Criterion]) -> Criterion:
    """Return the criterion that is a dynamic loss.

    Raises:
        BadInput: there is none of a weight above 0, or several.
    """
    found = [criterion for criterion in criteria if isinstance(criterion.loss, DynamicLoss)]
    if len(found) != 1 or found[0].weight == 0.0:
        raise BadInput(
            f"criteria: {len(found)} dynamic losses; expected one, of a weight above 0, such as "
            "criteria={'ce': (CrossEntropyLoss(), 1.0), 'dynamic': (DynamicLoss(), 1.0)}"
        )
    return found[0]

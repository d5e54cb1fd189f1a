"""What changes a dynamic loss: an LSTM that remembers, or plain gradient descent that does not.

With g the gradient of the validation loss in the loss network's numbers phi ("coordinates"), of any scale,

    inputs    (sign(g) log(1 + 10^4 |g|) / 10,  clip(100 g, -1, 1))           for each coordinate by itself
    step      phi' = phi + scale * head(LSTM(inputs, memory))

One cell, the same for all coordinates, with a memory for each: the order of coordinates means nothing, and
the LSTM is as small for a large loss network as for a small one. The head starts at 0: the first steps are
none.

The LSTM learns from what its steps did to the student. With theta held at each step,

    w <- w - b grad_w sum_{m=1..M} e(theta''(phi'_m)),   theta'' = theta' - a grad L_{phi'_m}(theta')

and theta''(phi'_m) is the very student that the next training batches make: its validation loss is computed
there anyway, and so is its gradient g in phi'_m. Hence grad_w of the sum is that of sum_m <g_{m+1}, phi'_m>,
g held, and no batch is spent and no student moved for the teacher's sake.

Source: Hai et al., "L2T-DLN", NeurIPS 2023 (the LSTM teacher of three-stage optimization); coordinate-wise
LSTM and scaled inputs: Andrychowicz et al., "Learning to learn by gradient descent by gradient descent", 2016
(section 2.1 and appendix A, there with another scaling).
"""

from abc import ABC, abstractmethod
from typing import Final, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, RunFailed

STEEPNESS: Final = 1e4
LOG_SCALE: Final = 10.0
CLIP_SCALE: Final = 100.0
MAX_NORM: Final = 1.0
"""Longest gradient of the LSTM's own numbers; longer ones are shortened to it."""


class Memory(NamedTuple):
    """What the LSTM remembers of each coordinate."""

    hidden: Float[Tensor, "coordinates units"]
    cell: Float[Tensor, "coordinates units"]


class Proposal(NamedTuple):
    """A teacher's answer to one gradient."""

    step: Float[Tensor, " coordinates"]
    """What is added to the loss network's numbers."""
    memory: Memory


class LossTeacher(nn.Module, ABC):
    """What may change a dynamic loss: a module that answers a gradient with a step."""

    @property
    def settings(self) -> dict[str, int | float | str]:
        """What it was built with, as far as its public attributes are plain values."""
        return {
            name: value
            for name, value in sorted(vars(self).items())
            if isinstance(value, int | float | str) and name != "training" and name[0] != "_"
        }

    @abstractmethod
    def start(self, coordinates: int) -> Memory:
        """Return the memory before the first gradient."""

    @abstractmethod
    def forward(self, gradient: Float[Tensor, " coordinates"], memory: Memory) -> Proposal:
        """Return step and memory; both with gradient in the teacher's parameters, if it has any."""


class CoordinateLstm(LossTeacher):
    """The LSTM teacher: coordinate-wise, with memory.

    Args:
        units: hidden units.
        scale: what the head's output is multiplied by.
        seed: of the cell's first weights.

    Raises:
        BadInput: a size or scale that is not above 0.
    """

    def __init__(self, *, units: int = 8, scale: float = 0.05, seed: int = 0) -> None:
        super().__init__()
        if units < 1 or not scale > 0:
            raise BadInput(f"CoordinateLstm: units is {units} and scale {scale}; both must be above 0")
        self.units, self.scale, self.seed = units, scale, seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.cell = nn.LSTMCell(2, units)
        self.head = nn.Linear(units, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def start(self, coordinates: int) -> Memory:
        """Return a memory of nothing."""
        nothing = self.head.weight.new_zeros(coordinates, self.units)
        return Memory(nothing, nothing.clone())

    def forward(self, gradient: Float[Tensor, " coordinates"], memory: Memory) -> Proposal:
        """Return step and memory; a permutation of coordinates permutes both."""
        inputs = scale_gradient(gradient.to(self.head.weight.dtype))
        hidden, cell = self.cell(inputs, tuple(memory))
        step = self.scale * self.head(hidden).squeeze(-1)
        return Proposal(step.to(gradient.dtype), Memory(hidden, cell))


class GradientDescent(LossTeacher):
    """The teacher without memory or anything to learn: phi' = phi - rate * g.

    Raises:
        BadInput: a rate that is not above 0.
    """

    def __init__(self, *, rate: float) -> None:
        super().__init__()
        if not rate > 0:
            raise BadInput(f"GradientDescent: rate is {rate}; it must be above 0")
        self.rate = rate

    def start(self, coordinates: int) -> Memory:
        """Return a memory of no units."""
        return Memory(torch.zeros(coordinates, 0), torch.zeros(coordinates, 0))

    def forward(self, gradient: Float[Tensor, " coordinates"], memory: Memory) -> Proposal:
        """Return the step; the memory stays as it is."""
        return Proposal(-self.rate * gradient, memory)


class TaughtLoss:
    """The numbers of a loss network, changed by a teacher that learns from what its steps did.

    Args:
        teacher: gives the steps.
        optimizer: of the teacher's parameters; None: there are none to learn.
        window: M, how many of its steps the teacher is held to account for at once (truncated
            back-propagation in time: what was before is detached).

    `values` are the network's numbers, (coordinates,).
    """

    def __init__(
        self,
        teacher: LossTeacher,
        optimizer: torch.optim.Optimizer | None,
        *,
        window: int,
        values: Float[Tensor, " coordinates"],
        memory: Memory,
    ) -> None:
        self._teacher, self._optimizer, self._window = teacher, optimizer, window
        self._values, self._memory = values.detach(), memory
        self._account: list[Tensor] = []

    @property
    def values(self) -> Float[Tensor, " coordinates"]:
        """The numbers as they are now, detached."""
        return self._values.detach()

    @property
    def memory(self) -> Memory:
        """The teacher's memory as it is now, detached."""
        return Memory(*(part.detach() for part in self._memory))

    def update(self, gradient: Float[Tensor, " coordinates"]) -> None:
        """Take the gradient of the validation loss in `values`; let the teacher learn of it, then step.

        Raises:
            RunFailed: the gradient is not finite.
        """
        if not bool(gradient.isfinite().all()):
            raise RunFailed(
                "the gradient of the validation loss in the dynamic loss is not finite; lower the student's "
                "learning rate, or take fewer inner steps"
            )
        if self._values.requires_grad:
            self._account.append(gradient @ self._values)
        if len(self._account) == self._window:
            self.settle()
        proposal: Proposal = self._teacher(gradient, self._memory)
        self._values, self._memory = self._values + proposal.step, proposal.memory

    def settle(self) -> None:
        """Let the teacher learn from the steps whose effect is known; forget how they came about."""
        if self._account and self._optimizer is not None:
            parameters = [one for group in self._optimizer.param_groups for one in group["params"]]
            self._optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(torch.stack(self._account).sum())
            nn.utils.clip_grad_norm_(parameters, MAX_NORM, error_if_nonfinite=True)
            self._optimizer.step()
        self._account = []
        self._values, self._memory = self.values, self.memory


def scale_gradient(gradient: Float[Tensor, " coordinates"]) -> Float[Tensor, "coordinates 2"]:
    """Return two views of a gradient that tell sizes from 1e-6 to 1 apart.

    >>> scale_gradient(torch.tensor([0.0, -0.02]))
    tensor([[ 0.0000,  0.0000],
            [-0.5303, -1.0000]])
    """
    logarithm = gradient.sign() * torch.log1p(STEEPNESS * gradient.abs()) / LOG_SCALE
    return torch.stack([logarithm, (CLIP_SCALE * gradient).clamp(-1.0, 1.0)], dim=-1)

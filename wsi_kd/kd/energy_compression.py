"""Experimental: keep a small generator's outputs informative of a large one's, through an energy model.

For a teacher's output t = G_t(x) and a student's s = G_s(x) of the same input

    I(T; S) >= H(T) + E[log q(t | s)],    q(t | s) = exp(-E(t, s)) / Z(s),

with an energy network E. Both sides climb the bound by contrast with samples t~ of q(. | s):

    energy:   minimize  mean E(t, s) - mean E(t~, s) + l2 mean(E(t, s)^2 + E(t~, s)^2),   s detached
    student:  minimize  mean E(t, s) - mean E(t~, s),   gradient through s alone

added to a base loss with a weight of .05 or less. Information does not change under any bijection of s, so
that this term alone never says what an output should look like.

What to expect: with exact samples and a base loss that leaves something open, Frechet distances fall by more
than half; with a complete base loss (L1 on all channels) they rise. On images short chains of the reference's
kind are inert or harm; `energy_chains` has persistent ones, which keep the energies bounded and gained
nothing either (docs/kd_theory.md). It is off wherever it is not asked for.

Source: Kang, Yoo, Kang, Ki, Lee and Han, "Information-theoretic GAN compression with variational energy-based
model", NeurIPS 2022 (arXiv 2303.16050). Their step and noise (`LangevinSampler.reference`) are no Langevin
pair: the chain's temperature is sigma^2 / (2 eta), about 1e-7; `LangevinSampler.consistent` has one of 1.
"""

import math
from itertools import pairwise
from typing import Final, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from wsi_kd.core.errors import BadInput, RunFailed

LOW: Final = -1.0
HIGH: Final = 1.0
"""Where generators' outputs lie."""


@runtime_checkable
class Sampler(Protocol):
    """Draws t~ from q(. | s)."""

    def __call__(self, energy: nn.Module, student: Tensor, *, generator: torch.Generator) -> Tensor:
        """Return one sample for each of the student's outputs, without gradient."""


class LangevinSampler(NamedTuple):
    """A short chain from the student's output: t - eta grad E + sigma noise, then clamped to [-1, 1]."""

    eta: float
    sigma: float
    steps: int = 10

    @classmethod
    def consistent(cls, step: float, *, steps: int = 10) -> "LangevinSampler":
        """Return the chain whose stationary distribution tends to q as `step` goes to 0.

        Raises:
            BadInput: a step or a number of steps that is not above 0.
        """
        if not (step > 0.0 and steps >= 1):
            raise BadInput(f"Langevin step {step:g}, {steps} steps: expected both above 0")
        return cls(step / 2.0, math.sqrt(step), steps)

    @classmethod
    def reference(cls, *, eta: float = 100.0, sigma: float = 0.005, steps: int = 10) -> "LangevinSampler":
        """Return the released code's chain: nearly a gradient descent."""
        return cls(eta, sigma, steps)

    def __call__(self, energy: nn.Module, student: Tensor, *, generator: torch.Generator) -> Tensor:
        """Return the ends of the chains.

        Raises:
            RunFailed: the energy's gradient is not finite.
        """
        condition = student.detach()
        current = condition.clone()
        for _ in range(self.steps):
            current = langevin_step(
                energy, current, condition, eta=self.eta, sigma=self.sigma, generator=generator
            )
        return current


def langevin_step(
    energy: nn.Module,
    current: Tensor,
    condition: Tensor,
    *,
    eta: float,
    sigma: float,
    generator: torch.Generator,
) -> Tensor:
    """Return t - eta grad E(t, s) + sigma noise for each chain, clamped to [-1, 1].

    Raises:
        RunFailed: the energy's gradient is not finite.
    """
    with torch.enable_grad():
        moving = current.detach().requires_grad_()
        (slope,) = torch.autograd.grad(energy(moving, condition).sum(), moving)
    if not bool(slope.isfinite().all()):
        raise RunFailed(
            "the energy's gradient is not finite; normalize its layers spectrally, or lower its "
            "learning rate or the chain's step"
        )
    noise = torch.randn(current.shape, generator=generator).to(current)
    return (moving.detach() - eta * slope + sigma * noise).clamp(LOW, HIGH)


class GridSampler(NamedTuple):
    """Exact samples for outputs of two numbers: q is computed on a grid over [-1, 1]^2."""

    points: int = 25
    """An axis; q is constant on each cell."""

    def __call__(self, energy: nn.Module, student: Tensor, *, generator: torch.Generator) -> Tensor:
        """Return a grid point for each output, drawn with its probability."""
        with torch.no_grad():
            probabilities = self._log_cells(energy, student.detach()).exp()
            rows = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
            return self._grid(student)[rows]

    def log_density(self, energy: nn.Module, teacher: Tensor, student: Tensor) -> Float[Tensor, "samples"]:
        """Return log q(t | s) of each pair; its gradient is the exact one."""
        cell = ((HIGH - LOW) / self.points) ** 2
        grid = self._grid(student)
        energies = _on_grid(energy, grid, student)
        own: Tensor = energy(teacher, student)
        return -own - torch.logsumexp(-energies, dim=1) - math.log(cell)

    def _log_cells(self, energy: nn.Module, student: Tensor) -> Tensor:
        return torch.log_softmax(-_on_grid(energy, self._grid(student), student), dim=1)

    def _grid(self, student: Tensor) -> Tensor:
        if student.ndim != 2 or student.shape[1] != 2:  # noqa: PLR2004  # samples, two numbers
            raise BadInput(
                f"outputs of shape {tuple(student.shape)}: a grid is for (samples, 2); take a LangevinSampler"
            )
        half = (HIGH - LOW) / (2 * self.points)
        axis = torch.linspace(LOW + half, HIGH - half, self.points, dtype=student.dtype)
        return torch.cartesian_prod(axis, axis).to(student)


class VEMLoss(nn.Module):
    """The two losses of an energy model between a teacher's and a student's outputs.

    In every step: `samples = vem.sample(student)`; minimize `energy_loss` by an optimizer of
    `vem.energy.parameters()`; then add a weight times `student_loss` to the student's base loss.

    Args:
        energy: called with (outputs, student's outputs), gives (samples,) energies.
        sampler: of q; see the module.
        energy_l2: weight of the squared energies in `energy_loss`.
        seed: of the samples.
    """

    def __init__(
        self, energy: nn.Module, sampler: Sampler, *, energy_l2: float = 0.05, seed: int = 0
    ) -> None:
        super().__init__()
        if energy_l2 < 0.0:
            raise BadInput(f"energy_l2 {energy_l2:g}: expected 0 or more")
        self.energy = energy
        self.sampler = sampler
        self.energy_l2 = energy_l2
        self.generator = torch.Generator().manual_seed(seed)

    def sample(self, student: Float[Tensor, "samples ..."]) -> Float[Tensor, "samples ..."]:
        """Return samples of q(. | s), for both losses of a step."""
        drawn: Tensor = self.sampler(self.energy, student, generator=self.generator)
        return drawn.detach()

    def energy_loss(self, teacher: Tensor, student: Tensor, samples: Tensor) -> Float[Tensor, ""]:
        """Return the energy network's loss; it reaches neither generator.

        Raises:
            BadInput: outputs of other shapes.
            RunFailed: energies that are not finite.
        """
        _check_pair(teacher, student, samples)
        condition = student.detach()
        real, drawn = self.energy(teacher.detach(), condition), self.energy(samples, condition)
        _check_energies(real, drawn)
        loss: Tensor = real.mean() - drawn.mean()
        size: Tensor = (real.square() + drawn.square()).mean()
        return loss + self.energy_l2 * size

    def student_loss(self, teacher: Tensor, student: Tensor, samples: Tensor) -> Float[Tensor, ""]:
        """Return the student's loss; it reaches neither the teacher nor the energy network's weights.

        Raises:
            BadInput: outputs of other shapes.
            RunFailed: energies that are not finite.
        """
        _check_pair(teacher, student, samples)
        frozen = {name: value.detach() for name, value in self.energy.named_parameters()}
        frozen |= dict(self.energy.named_buffers())

        def energy(outputs: Tensor) -> Tensor:
            given: Tensor = torch.func.functional_call(self.energy, frozen, (outputs, student))
            return given

        real, drawn = energy(teacher.detach()), energy(samples.detach())
        _check_energies(real, drawn)
        return real.mean() - drawn.mean()


class VectorEnergy(nn.Module):
    """An energy of pairs of vectors: a perceptron on both, its layers spectrally normalized if asked."""

    def __init__(self, width: int, *, hidden: int = 64, normalize: bool = True) -> None:
        super().__init__()
        layers = [nn.Linear(2 * width, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 1)]
        self.layers = nn.ModuleList([spectral_norm(one) if normalize else one for one in layers])

    def forward(
        self, outputs: Float[Tensor, "samples width"], student: Float[Tensor, "samples width"]
    ) -> Float[Tensor, "samples"]:
        """Return each pair's energy."""
        values = torch.cat([outputs, student], dim=1)
        for layer in self.layers[:-1]:
            values = nn.functional.silu(layer(values))
        energies: Tensor = self.layers[-1](values)[:, 0]
        return energies


class ImageEnergy(nn.Module):
    """An energy of pairs of images: both halved, spectrally normalized convolutions, mean over the places."""

    def __init__(self, channels: int = 3, *, hidden: int = 32, depth: int = 3) -> None:
        super().__init__()
        widths = [2 * channels, *(hidden * 2**number for number in range(depth))]
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(before, after, 3, stride=2, padding=1))
            for before, after in pairwise(widths)
        )
        self.last = spectral_norm(nn.Linear(widths[-1], 1))

    def forward(
        self,
        outputs: Float[Tensor, "samples channels height width"],
        student: Float[Tensor, "samples channels height width"],
    ) -> Float[Tensor, "samples"]:
        """Return each pair's energy."""
        values = nn.functional.avg_pool2d(torch.cat([outputs, student], dim=1), 2)
        for layer in self.layers:
            values = nn.functional.leaky_relu(layer(values), 0.2)
        energies: Tensor = self.last(values.mean(dim=(2, 3)))[:, 0]
        return energies


def _on_grid(energy: nn.Module, grid: Tensor, student: Tensor) -> Tensor:
    """Return (samples, grid points) energies."""
    samples = len(student)
    outputs = grid.repeat(samples, 1)
    conditions = student.repeat_interleave(len(grid), dim=0)
    energies: Tensor = energy(outputs, conditions).view(samples, len(grid))
    _check_energies(energies)
    return energies


def _check_pair(teacher: Tensor, student: Tensor, samples: Tensor) -> None:
    if samples.shape != student.shape:
        raise BadInput(
            f"samples are {tuple(samples.shape)} and the student's outputs {tuple(student.shape)}; draw them "
            "in the same step: samples = vem.sample(student)"
        )
    if teacher.shape != student.shape:
        raise BadInput(
            f"the teacher's outputs are {tuple(teacher.shape)} and the student's {tuple(student.shape)}; "
            "generators must give the same shape: resize one of them"
        )


def _check_energies(*energies: Tensor) -> None:
    if not bool(torch.stack([one.detach().isfinite().all() for one in energies]).all()):
        raise RunFailed(
            "energies are not finite; normalize the energy network's layers spectrally, or lower its "
            "learning rate"
        )

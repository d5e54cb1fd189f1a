"""Experimental: chains with a memory for `energy_compression`, whose energies are hard to follow.

Chains that start at the student's output in every step, and are cut off after ten, never see what the energy
says far from it. Two remedies, both with Langevin pairs that are consistent at a stated temperature:

    t - eta grad E + sigma noise,    eta = step / (2 temperature),    sigma = sqrt(step),

whose stationary distribution tends to exp(-E / temperature) as the step goes to 0. Sampling at a temperature
is the model of the energy E / temperature: the contrast of `VEMLoss` only differs by that factor.

* `AnnealedSampler`: the steps of a chain fall geometrically, the first ones cross, the last ones settle (Song
  and Ermon, "Generative modeling by estimating gradients of the data distribution", NeurIPS 2019, algorithm
  1, with one energy at all levels).
* `PersistentSampler`: every training sample keeps its chain from epoch to epoch (Tieleman, "Training
  restricted Boltzmann machines using approximations to the likelihood gradient", ICML 2008; the replay buffer
  and its restarts: Du and Mordatch, "Implicit generation and modeling with energy-based models", NeurIPS
  2019). q(. | s) is another one for every sample, so that no chain may serve a second one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.energy_compression import langevin_step


class Step(NamedTuple):
    """One step of a chain."""

    eta: float
    """Factor of the energy's gradient."""
    sigma: float
    """Standard deviation of the noise."""


def tempered_steps(first: float, last: float, *, count: int, temperature: float = 1.0) -> tuple[Step, ...]:
    """Return Langevin pairs whose steps fall geometrically, or stay where both ends are equal.

    Args:
        first: step of the first pair, the variance of its noise.
        last: step of the last pair; one pair alone takes the first.
        count: number of pairs.
        temperature: of the distribution that the chain tends to.

    Raises:
        BadInput: anything that is not above 0, or a step that rises.

    >>> [(round(eta, 4), round(sigma, 4)) for eta, sigma in tempered_steps(0.04, 0.01, count=3)]
    [(0.02, 0.2), (0.01, 0.1414), (0.005, 0.1)]
    """
    if not (first >= last > 0.0 and count >= 1 and temperature > 0.0):
        raise BadInput(
            f"{count} Langevin steps from {first:g} to {last:g} at temperature {temperature:g}: expected all "
            "above 0 and none that rises"
        )
    steps = [first * (last / first) ** (number / max(count - 1, 1)) for number in range(count)]
    return tuple(Step(step / (2.0 * temperature), step**0.5) for step in steps)


class AnnealedSampler(NamedTuple):
    """A `Sampler`: a short chain from the student's output through given steps."""

    steps: tuple[Step, ...]

    def __call__(self, energy: nn.Module, student: Tensor, *, generator: torch.Generator) -> Tensor:
        """Return the ends of the chains.

        Raises:
            RunFailed: the energy's gradient is not finite.
        """
        condition = student.detach()
        return run_chain(energy, condition, condition, steps=self.steps, generator=generator)


class PersistentSampler:
    """A `Sampler` that goes on, for each training sample, with the chain that it had last time.

    In every step, before `vem.sample(student)`: `sampler.expect(rows)`, the batch's row numbers in the
    training set. A chain starts at the student's output where the row is new, or when it is restarted.

    Args:
        steps: of one visit, e.g. `tempered_steps(1e-3, 1e-4, count=5, temperature=1e-4)`.
        rows: size of the training set; a buffer of that many outputs is kept where the student's are.
        restart: probability that a chain is started anew at a visit.
    """

    def __init__(self, steps: Sequence[Step], *, rows: int, restart: float = 0.0) -> None:
        if not (steps and rows >= 1 and 0.0 <= restart <= 1.0):
            raise BadInput(
                f"{len(steps)} steps a visit, chains of {rows} rows, restarted with probability {restart:g}: "
                "expected at least one of each, and a probability"
            )
        self.steps = tuple(steps)
        self.restart = restart
        self.visits = torch.zeros(rows, dtype=torch.int64)
        """How often each row's chain has moved since it started."""
        self._chains: Tensor | None = None
        self._expected: Tensor | None = None

    def expect(self, rows: Int64[Tensor, "samples"]) -> None:
        """Say whose outputs come next.

        Raises:
            BadInput: rows outside the training set, or one that comes twice.
        """
        rows = rows.cpu()
        known = len(self.visits)
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < known:
            raise BadInput(
                f"rows {int(rows.min())} to {int(rows.max())}: chains are kept for rows 0 to {known - 1}; "
                "give the row numbers in the training set, and its size as `rows`"
            )
        if len(set(rows.tolist())) < len(rows):
            raise BadInput(
                "a row comes twice in a batch: draw batches without replacement, as it has one chain"
            )
        self._expected = rows

    def __call__(self, energy: nn.Module, student: Tensor, *, generator: torch.Generator) -> Tensor:
        """Return where the chains of the expected rows have come to, and keep it.

        Raises:
            BadInput: `expect` was not called for these outputs, or they changed their shape.
            RunFailed: the energy's gradient is not finite; the chains stay as they were.
        """
        rows, condition = self._take_expected(student), student.detach()
        chains = self._buffer(condition)
        fresh = (torch.rand(len(rows), generator=generator) < self.restart) | (self.visits[rows] == 0)
        places = rows.to(condition.device)
        axes = (-1, *(1,) * (condition.ndim - 1))
        start = torch.where(fresh.to(condition.device).view(axes), condition, chains[places])
        ends = run_chain(energy, start, condition, steps=self.steps, generator=generator)
        chains[places] = ends
        self.visits[rows] = torch.where(fresh, 0, self.visits[rows]) + 1
        return ends

    def _take_expected(self, student: Tensor) -> Tensor:
        rows, self._expected = self._expected, None
        if rows is None or len(rows) != len(student):
            told = "no rows" if rows is None else f"{len(rows)} rows"
            raise BadInput(
                f"{told} announced for {len(student)} outputs; call sampler.expect(rows) with the batch's "
                "row numbers before each vem.sample(student)"
            )
        return rows

    def _buffer(self, condition: Tensor) -> Tensor:
        """Return the chains; they are made when the first outputs show their shape, type and device."""
        if self._chains is None:
            self._chains = condition.new_zeros(len(self.visits), *condition.shape[1:])
        if self._chains.shape[1:] != condition.shape[1:]:
            raise BadInput(
                f"outputs of shape {tuple(condition.shape[1:])}, chains of {tuple(self._chains.shape[1:])}: "
                "persistent chains need outputs of one size"
            )
        return self._chains


def run_chain(
    energy: nn.Module,
    start: Tensor,
    condition: Tensor,
    *,
    steps: Sequence[Step],
    generator: torch.Generator,
) -> Tensor:
    """Return where chains of outputs end.

    Args:
        energy: of (outputs, student's outputs).
        start: where they begin.
        condition: the student's outputs.
        steps: one after the other.
        generator: of the noise.

    Raises:
        RunFailed: the energy's gradient is not finite.
    """
    current = start.detach().clone()
    for eta, sigma in steps:
        current = langevin_step(energy, current, condition, eta=eta, sigma=sigma, generator=generator)
    return current

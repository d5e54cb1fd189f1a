"""Many independent chains of SGD on least squares, each step the distillation gradient.

All chains are one module, so that every gradient, the teacher's and the full one too, is that of `kd`.
"""

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from wsi_kd.kd.least_squares import LeastSquares, full_gradient_error, sgd_variance
from wsi_kd.kd.teacher_gradient import Gradients, mean_gradient
from wsi_kd.kd.variance_reduction import DistillationGradient
from wsi_kd.kd.variance_weight import optimal_weight, stationary_error

SAMPLES: Final = 500
DIMENSION: Final = 10
STEP_SIZE: Final = 0.02
CHAINS: Final = 1200
SETTLE: Final = 300
"""Steps before the measurement: 6 times those in which a chain forgets its start."""
MEASURE: Final = 400
EVERY: Final = 8
CHUNK: Final = 50
"""Samples at a time of the full gradient."""
WEIGHTS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)


class Compared(NamedTuple):
    """One mean squared distance from the optimum, simulated and by the closed form."""

    simulated: float
    expected: float


class LeastSquaresFound(NamedTuple):
    """What one problem gave."""

    by_weight: dict[float, Compared]
    """One fixed teacher: an iterate of the same SGD."""
    best_weight: float
    at_best: Compared
    teacher: float
    """D of that teacher."""
    full_gradient: Compared
    """The same teacher at weight 1, its full gradient given back."""
    own_iterates: Compared
    """At weight 1/2, each chain taught by an independent iterate of its own."""
    perfect: float
    """At weight 1 taught by the optimum and begun there."""


class Chains(nn.Module):
    """One parameter vector a chain; each chain has samples of its own."""

    def __init__(self, starts: Tensor) -> None:
        super().__init__()
        self.at = nn.Parameter(starts.clone())

    def forward(self, inputs: Tensor) -> Tensor:
        """Return a'x: (chains, batch) of inputs (chains, batch, dimension)."""
        return (inputs * self.at[:, None, :]).sum(dim=-1)


def measure_least_squares(seed: int) -> LeastSquaresFound:
    """Draw a problem and a teacher, and let the chains run at each weight."""
    generator = torch.Generator().manual_seed(seed)
    problem = _draw(generator)
    optimum = problem.optimum.expand(CHAINS, -1)
    plain = Chains(optimum)
    variance = sgd_variance(problem, step_size=STEP_SIZE)
    simulated = {0.0: _run(problem, plain, Chains(optimum), weight=0.0, generator=generator)}
    iterates = plain.at.detach()
    distances = (iterates - optimum).square().sum(dim=1)
    teacher, distance = Chains(iterates[0].expand(CHAINS, -1)), distances[0].item()
    best = optimal_weight(variance, distance)
    for weight in (*WEIGHTS[1:], best):
        simulated[weight] = _run(problem, Chains(optimum), teacher, weight=weight, generator=generator)
    full = mean_gradient(teacher, _whole(problem), objective=_squared)
    given_back = _run(problem, Chains(optimum), teacher, weight=1.0, generator=generator, full=full)
    own = _run(problem, Chains(optimum), Chains(iterates), weight=0.5, generator=generator)
    perfect = _run(problem, Chains(optimum), Chains(optimum), weight=1.0, generator=generator)
    expected = {
        weight: stationary_error(weight, variance=variance, distance=distance) for weight in simulated
    }
    compared = {weight: Compared(simulated[weight], expected[weight]) for weight in simulated}
    theirs = full_gradient_error(problem, teacher.at[0].detach(), weight=1.0, step_size=STEP_SIZE)
    return LeastSquaresFound(
        {weight: compared[weight] for weight in WEIGHTS},
        best,
        compared[best],
        distance,
        Compared(given_back, theirs),
        Compared(own, 0.25 * distances.mean().item() + 0.25 * variance),
        perfect,
    )


def _draw(generator: torch.Generator) -> LeastSquares:
    inputs = torch.randn(SAMPLES, DIMENSION, generator=generator, dtype=torch.float64)
    truth, noise = (
        torch.randn(size, generator=generator, dtype=torch.float64) for size in (DIMENSION, SAMPLES)
    )
    return LeastSquares(inputs, inputs @ truth + noise)


def _run(
    problem: LeastSquares,
    chains: Chains,
    teacher: Chains,
    *,
    weight: float,
    generator: torch.Generator,
    full: Gradients | None = None,
) -> float:
    """Let the chains settle; return the mean of ||x - x*||^2 over chains and steps after that."""
    optimizer = torch.optim.SGD(chains.parameters(), lr=STEP_SIZE)
    taught = DistillationGradient(chains, teacher, weight=weight, objective=_squared, full_gradient=full)
    optimum, measured = problem.optimum, []
    for step in range(SETTLE + MEASURE):
        rows = torch.randint(SAMPLES, (CHAINS, 1), generator=generator)
        optimizer.zero_grad()
        torch.autograd.backward(taught(problem.inputs[rows], problem.targets[rows]))
        optimizer.step()
        if step >= SETTLE and step % EVERY == 0:
            measured.append((chains.at.detach() - optimum).square().sum(dim=1).mean())
    return torch.stack(measured).mean().item()


def _squared(given: Tensor, wanted: Tensor) -> Tensor:
    """Each chain's half mean squared error, added up: chains do not share parameters."""
    return 0.5 * (given - wanted).square().mean(dim=1).sum()


def _whole(problem: LeastSquares) -> list[tuple[Tensor, Tensor]]:
    """All samples for every chain, in batches."""
    return [
        (inputs.expand(CHAINS, -1, -1), targets.expand(CHAINS, -1))
        for inputs, targets in zip(
            torch.split(problem.inputs, CHUNK), torch.split(problem.targets, CHUNK), strict=True
        )
    ]

"""Where constant-step SGD rests on least squares, exactly: the covariance of its iterates.

    f(x) = (1 / 2n) sum_i (a_i'x - b_i)^2,       batches of B drawn uniformly, with replacement, step size s

With H_B the mean of a_i a_i' over a batch and r_B that of its residual gradients a_i (a_i'x* - b_i), the
distance from the optimum goes as e <- (I - s H_B) e - s r_B. Its stationary covariance C solves the linear
equation

    s (H C + C H) - s^2 E[H_B C H_B] = s^2 E[r_B r_B'],
    E[H_B C H_B] = (1 / B) E[a a'C a a'] + (1 - 1 / B) H C H,       E[r_B r_B'] = (1 / B) E[r r']

for all d^2 elements of C at once. V is the trace of C. The same equation with other noise in place of r
holds for the distillation gradient: (1 - w) r about (1 - w) x* + w theta, and, where the teacher's full
gradient is given back, (1 - w) r - w (a a' - H)(theta - x*) about x*.

Derived here; golden numbers are simulations (tests, claim check). All in float64.
"""

from typing import Final, NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from wsi_kd.core.errors import BadInput

MAX_DIMENSION: Final = 40
"""The equation has the square of the dimension as unknowns, its matrix their square: 20 MB at 40."""


class LeastSquares(NamedTuple):
    """A least-squares problem; see the module."""

    inputs: Float64[Tensor, "samples dimension"]
    """a_i by rows."""
    targets: Float64[Tensor, "samples"]
    """b_i."""

    @property
    def optimum(self) -> Float64[Tensor, "dimension"]:
        """x*, of the normal equations."""
        solved: Tensor = torch.linalg.lstsq(self.inputs, self.targets[:, None]).solution
        return solved[:, 0]

    @property
    def hessian(self) -> Float64[Tensor, "dimension dimension"]:
        """H = E[a a']."""
        return self.inputs.T @ self.inputs / len(self.inputs)

    def gradients(self, at: Float64[Tensor, "dimension"]) -> Float64[Tensor, "samples dimension"]:
        """Return a_i (a_i'x - b_i) of every sample."""
        return self.inputs * (self.inputs @ at - self.targets)[:, None]


def stationary_covariance(
    problem: LeastSquares,
    *,
    step_size: float,
    batch_size: int = 1,
    noise: Float64[Tensor, "samples dimension"] | None = None,
) -> Float64[Tensor, "dimension dimension"]:
    """Return C = E[(x - E x)(x - E x)'] of the iterates after infinitely many steps.

    Args:
        problem: n samples of at most `MAX_DIMENSION` dimensions, H regular.
        step_size: s.
        batch_size: B.
        noise: of every sample, in place of r; its mean is 0. None: r, that of plain SGD.

    Raises:
        BadInput: a step size at which the covariance grows without bound, too many dimensions, empty batches.
    """
    dimension = problem.inputs.shape[1]
    if dimension > MAX_DIMENSION or batch_size < 1 or not step_size > 0.0:
        raise BadInput(
            f"stationary_covariance: dimension {dimension}, batch_size {batch_size}, step_size {step_size}; "
            f"expected at most {MAX_DIMENSION}, at least 1, above 0"
        )
    drawn = problem.gradients(problem.optimum) if noise is None else noise
    drive = drawn.T @ drawn / (len(drawn) * batch_size)
    carried = _carried(problem, step_size=step_size, batch_size=batch_size)
    growth = torch.linalg.eigvals(carried).abs().max().item()
    if growth >= 1.0:
        raise BadInput(
            f"stationary_covariance: at step_size {step_size:g} SGD diverges (growth {growth:.3g} a step) "
            "or H is singular; take a smaller step size, or leave out what is redundant"
        )
    settled = torch.eye(dimension**2, dtype=torch.float64) - carried
    solved: Tensor = torch.linalg.solve(settled, step_size**2 * drive.flatten())
    return solved.view(dimension, dimension)


def sgd_variance(problem: LeastSquares, *, step_size: float, batch_size: int = 1) -> float:
    """Return V = tr C, the stationary E ||x - x*||^2 of plain SGD.

    Raises:
        BadInput: as `stationary_covariance`.
    """
    return stationary_covariance(problem, step_size=step_size, batch_size=batch_size).trace().item()


def full_gradient_error(
    problem: LeastSquares,
    teacher: Float64[Tensor, "dimension"],
    *,
    weight: float,
    step_size: float,
    batch_size: int = 1,
) -> float:
    """Return E ||x - x*||^2 of the distillation gradient that gives the teacher's full gradient back.

    It has no bias, so that this is all noise.

    Raises:
        BadInput: as `stationary_covariance`.
    """
    theirs = problem.gradients(teacher)
    noise = problem.gradients(problem.optimum) - weight * (theirs - theirs.mean(dim=0))
    covariance = stationary_covariance(problem, step_size=step_size, batch_size=batch_size, noise=noise)
    return covariance.trace().item()


def _carried(
    problem: LeastSquares, *, step_size: float, batch_size: int
) -> Float64[Tensor, "unknowns unknowns"]:
    """E[(I - s H_B) (x) (I - s H_B)]: what becomes of a covariance in one step, its noise left out."""
    dimension = problem.inputs.shape[1]
    hessian, unit = problem.hessian, torch.eye(dimension, dtype=torch.float64)
    pairs = torch.einsum("ni,nj->nij", problem.inputs, problem.inputs).flatten(1)
    single = pairs.T @ pairs / len(pairs)  # (a a') (x) (a a') is (a (x) a)(a (x) a)'
    both = single / batch_size + (1.0 - 1.0 / batch_size) * torch.kron(hessian, hessian)
    linear = torch.kron(hessian, unit) + torch.kron(unit, hessian)
    return torch.eye(dimension**2, dtype=torch.float64) - step_size * linear + step_size**2 * both

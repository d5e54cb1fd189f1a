"""The shortest vector in the capped hull of some: a quadratic program of a few variables, to rounding.

    minimize  1/2 || sum_m w_m g_m ||^2 = 1/2 w' G w    subject to  sum_m w_m = 1,  0 <= w_m <= C

of the Gram matrix G = (<g_m, g_n>) alone. The weights do not depend on the scale of the g_m, so G is divided
by its trace first: solvers with an absolute tolerance (libsvm's 1e-6 in the released code of AE-KD) otherwise
stop at their start when gradients are small. Where several weights give the shortest vector (G is singular),
that vector is the same for all of them.

The active set method: over the free weights go to the minimum of the program without bounds, or as far as a
bound, which fixes a weight; at that minimum let go the fixed weights that it would gain most by. Nocedal,
Wright, "Numerical optimization", chapter 16.
"""

from typing import Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from wsi_kd.core.errors import BadInput, RunFailed

ROUNDING: Final = 1e-12
"""Of weights and slopes, of a Gram matrix whose trace is 1."""
SINGULAR: Final = 1e-14
"""Directions of a smaller share of the largest singular value are flat."""
ROUNDS: Final = 100
"""Per vector; the method needs about one."""


class _Bounds(NamedTuple):
    """Which weights may move."""

    at_zero: Bool[np.ndarray, "vectors"]
    at_cap: Bool[np.ndarray, "vectors"]


def min_norm_weights(
    gram: Float[Tensor, "vectors vectors"], *, cap: float = 1.0
) -> Float64[Tensor, "vectors"]:
    """Return the weights of the shortest vector; uniform ones where all vectors are 0.

    `cap` is C: 1 for the whole hull, 1 / vectors for the plain mean.

    >>> gram = torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    >>> min_norm_weights(gram), min_norm_weights(gram, cap=0.6)
    (tensor([0.8000, 0.2000], dtype=torch.float64), tensor([0.6000, 0.4000], dtype=torch.float64))

    Raises:
        BadInput: a cap below 1 / vectors, with which the weights cannot sum to 1, or above 1; a matrix that
            is not finite.
    """
    number = len(gram)
    check_cap(cap, vectors=number)
    values = gram.detach().to("cpu", torch.float64).numpy()
    scale = np.trace(values)
    if not np.isfinite(values).all():
        raise BadInput("min_norm_weights: the Gram matrix is not finite; check what the vectors are made of")
    if scale <= 0.0:
        return torch.full((number,), 1.0 / number, dtype=torch.float64)
    return torch.from_numpy(_solve(values / scale, cap=cap))


def check_cap(cap: float, *, vectors: int) -> None:
    """Check that weights of at most `cap` can sum to 1.

    Raises:
        BadInput: they cannot, or the cap is above 1.
    """
    if not 1.0 / vectors - ROUNDING <= cap <= 1.0:
        raise BadInput(
            f"largest weight {cap:g} of {vectors} vectors: their weights sum to 1; expected 1/{vectors} (the "
            "plain mean) to 1"
        )


def _solve(gram: Float64[np.ndarray, "vectors vectors"], *, cap: float) -> Float64[np.ndarray, "vectors"]:
    number = len(gram)
    weights = np.full(number, 1.0 / number)
    fixed = _Bounds(np.zeros(number, dtype=bool), np.full(number, cap * number <= 1.0 + ROUNDING))
    for _ in range(ROUNDS * number):
        free = ~(fixed.at_zero | fixed.at_cap)
        step = _step(gram, weights, free)
        share, blocked = _reach(weights, step, cap=cap)
        weights = np.clip(weights + share * step, 0.0, cap)
        if share < 1.0:
            fixed.at_zero[blocked] = step[blocked] < 0.0
            fixed.at_cap[blocked] = step[blocked] > 0.0
        elif not _release(gram @ weights, fixed):
            return np.asarray(weights / weights.sum())
    raise RunFailed(
        f"min_norm_weights: no minimum after {ROUNDS * number} rounds; expected a Gram matrix of vectors"
    )


def _step(
    gram: Float64[np.ndarray, "vectors vectors"],
    weights: Float64[np.ndarray, "vectors"],
    free: Bool[np.ndarray, "vectors"],
) -> Float64[np.ndarray, "vectors"]:
    """Return the shortest way to the minimum over the free weights, their sum kept."""
    count = int(free.sum())
    step = np.zeros_like(weights)
    if count > 1:
        system = np.ones((count + 1, count + 1))
        system[:count, :count] = gram[np.ix_(free, free)]
        system[count, count] = 0.0
        right = np.append(-(gram @ weights)[free], 0.0)
        step[free] = np.linalg.lstsq(system, right, rcond=SINGULAR)[0][:count]
    return step


def _reach(
    weights: Float64[np.ndarray, "vectors"], step: Float64[np.ndarray, "vectors"], *, cap: float
) -> tuple[float, int]:
    """Return which share of the step stays within the bounds, at most 1, and what blocks it."""
    room = np.where(step < 0.0, weights, cap - weights)
    shares = np.divide(room, np.abs(step), out=np.full_like(weights, np.inf), where=np.abs(step) > ROUNDING)
    blocked = int(shares.argmin())
    return min(1.0, float(shares[blocked])), blocked


def _release(slope: Float64[np.ndarray, "vectors"], fixed: _Bounds) -> bool:
    """Let go the bounds that hold the minimum up most; say whether there were any.

    At the minimum no weight that may grow (below the cap) has a smaller slope than one that may shrink. Two
    free weights of nearly equal vectors may: what that could still gain is lost in rounding.
    """
    grows = np.where(fixed.at_cap, np.inf, slope)
    shrinks = np.where(fixed.at_zero, -np.inf, slope)
    if shrinks.max() - grows.min() <= ROUNDING:
        return False
    lowest, highest = grows.argmin(), shrinks.argmax()
    held = fixed.at_zero[lowest] or fixed.at_cap[highest]
    fixed.at_zero[lowest] = fixed.at_cap[highest] = False
    return bool(held)

"""How much of the teacher's gradient to take: the closed-form weight, and what it needs, measured.

Constant-step SGD does not come to rest at the optimum x* but wanders about it, at the mean squared distance
V. With a teacher theta at the squared distance D, on least squares, the distillation gradient of weight w
rests at

    E ||x - x*||^2 = w^2 D + (1 - w)^2 V          (bias and noise)
    w* = V / (V + D),  where it is V D / (V + D):  below that of plain SGD, V, and below the teacher's, D

for any batch size: there grad f_xi is affine, so that x goes about (1 - w) x* + w theta with (1 - w) times
the noise. The same holds for any quadratic form of x - x* in place of its length, such as f(x) - f*: with
the mean gap of plain SGD for V and the teacher's gap for D, w* is read off two values of the loss. A
teacher that is an independent iterate of the same SGD has D = V: w* = 1/2, and half of V. Elsewhere it
holds as far as the loss is a parabola where the iterates wander: `IterateSpread` measures V and D there.
Parameters of networks trained apart can lie far from each other while the networks agree; D is then large,
and w* rightly small.

Sources: derived here for least squares (`least_squares` solves for V). Safaryan, Peste, Alistarh, NeurIPS
2023, bound the neighborhood for strongly convex losses.
"""

import math

import torch
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.taps import unwrap
from wsi_kd.kd.teacher_gradient import check_same_parameters


def optimal_weight(variance: float, distance: float) -> float:
    """Return w* = V / (V + D).

    Args:
        variance: V, the stationary E ||x - x*||^2 of plain SGD.
        distance: D = ||theta - x*||^2 of the teacher.

    >>> optimal_weight(0.25, 0.75)
    0.25

    Raises:
        BadInput: one is negative or not finite, or both are 0 (any weight is then as good).
    """
    _check_spread(variance, distance)
    if variance == distance == 0.0:
        raise BadInput(
            "optimal_weight: V and D are 0, student and teacher rest at the optimum; take any weight"
        )
    return variance / (variance + distance)


def stationary_error(weight: float, *, variance: float, distance: float) -> float:
    """Return E ||x - x*||^2 = w^2 D + (1 - w)^2 V of the distillation gradient on least squares.

    >>> stationary_error(0.25, variance=0.25, distance=0.75)  # V D / (V + D)
    0.1875

    Raises:
        BadInput: V or D is negative or not finite.
    """
    _check_spread(variance, distance)
    return weight**2 * distance + (1.0 - weight) ** 2 * variance


class IterateSpread:
    """V and D measured while plain SGD goes on about its optimum: update it after every step.

    The mean of the iterates stands for x*. Begin when the loss falls no more, and go on for many times the
    number of steps in which the iterates forget where they were: from n nearly independent iterates V comes
    out too small by the share 1 / n, and D too large by V / n.

    >>> network = nn.Linear(1, 1, bias=False)
    >>> spread = IterateSpread(network)
    >>> for value in (1.0, 3.0):
    ...     _ = network.weight.data.fill_(value)
    ...     spread.update()
    >>> spread.variance
    1.0
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = unwrap(network)
        self._mean = torch.zeros_like(_flat(self._network))
        self._squares = 0.0
        self.steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take the network's parameters as they are now for one iterate."""
        self.steps += 1
        iterate = _flat(self._network)
        before = iterate - self._mean
        self._mean += before / self.steps
        self._squares += float(before @ (iterate - self._mean))

    @property
    def variance(self) -> float:
        """V: the mean squared distance of the iterates from their mean; at least two are needed."""
        if self.steps < 2:  # noqa: PLR2004  # one iterate is its own mean
            raise BadInput(f"IterateSpread: {self.steps} iterates; update it after every step, twice or more")
        return self._squares / self.steps

    @torch.no_grad()
    def distance(self, teacher: nn.Module) -> float:
        """Return D: the squared distance of a teacher from the mean of the iterates.

        Raises:
            BadInput: the teacher's parameters have other names or shapes.
        """
        check_same_parameters(self._network, unwrap(teacher))
        gap = _flat(unwrap(teacher)) - self._mean
        return float(gap @ gap)

    def weight(self, teacher: nn.Module) -> float:
        """Return w* = V / (V + D) for a teacher.

        Raises:
            BadInput: fewer than two iterates; as `distance` and `optimal_weight`.
        """
        return optimal_weight(self.variance, self.distance(teacher))


def _flat(network: nn.Module) -> Tensor:
    """All parameters in one float64 vector: V is a small difference."""
    return torch.cat([value.detach().double().flatten() for _, value in sorted(network.named_parameters())])


def _check_spread(variance: float, distance: float) -> None:
    for name, value in (("V", variance), ("D", distance)):
        if not (math.isfinite(value) and value >= 0.0):
            raise BadInput(f"variance reduction: {name} is {value}; a mean squared distance is at least 0")

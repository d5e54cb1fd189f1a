"""Factors that change over a training: of a criterion's weight, or of the learning rate.

A schedule takes the share of the training done, in [0, 1), and returns what the weight or rate is multiplied
by. Any function of one number serves; those here are compared and printed by their fields.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from wsi_kd.core.errors import BadInput

Schedule: TypeAlias = Callable[[float], float]


@dataclass(frozen=True)
class Constant:
    """The same factor all the time.

    >>> Constant(0.5)(0.9)
    0.5
    """

    value: float = 1.0

    def __call__(self, progress: float) -> float:
        """Return the factor at `progress` in [0, 1]."""
        del progress
        return self.value


@dataclass(frozen=True)
class _Span:
    """From `start` to `end` between two points of the training, flat before and after."""

    start: float
    end: float
    begin: float = 0.0
    finish: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.begin < self.finish <= 1.0:
            raise BadInput(
                f"a schedule from {self.begin} to {self.finish} of the training: "
                "expected 0 <= begin < finish <= 1"
            )

    def _share(self, progress: float) -> float:
        return min(max((progress - self.begin) / (self.finish - self.begin), 0.0), 1.0)


@dataclass(frozen=True)
class Linear(_Span):
    """From `start` to `end` on a straight line between two points of the training, flat before and after.

    >>> fade = Linear(1.0, 0.0, begin=0.5)  # flat in the first half, then down to nothing
    >>> [fade(progress) for progress in (0.0, 0.5, 0.75, 1.0)]
    [1.0, 1.0, 0.5, 0.0]
    """

    def __call__(self, progress: float) -> float:
        """Return the factor at `progress` in [0, 1]."""
        return self.start + (self.end - self.start) * self._share(progress)


@dataclass(frozen=True)
class Cosine(_Span):
    """From `start` to `end` on half a cosine, end + (start - end) (1 + cos(pi share)) / 2; flat outside.

    >>> [round(Cosine(1.0, 0.0)(progress), 3) for progress in (0.0, 0.25, 0.5, 1.0)]
    [1.0, 0.854, 0.5, 0.0]
    """

    def __call__(self, progress: float) -> float:
        """Return the factor at `progress` in [0, 1]."""
        share = self._share(progress)
        return self.end + (self.start - self.end) * 0.5 * (1.0 + math.cos(math.pi * share))


@dataclass(frozen=True)
class WarmupCosine:
    """From `start` to 1 on a straight line in the first `warmup` of the training, to `end` on half a cosine.

    >>> [round(WarmupCosine(warmup=0.2)(progress), 3) for progress in (0.0, 0.1, 0.2, 0.6, 1.0)]
    [0.1, 0.55, 1.0, 0.5, 0.0]
    """

    warmup: float = 0.05
    start: float = 0.1
    end: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.warmup < 1.0:
            raise BadInput(
                f"a schedule warms up for {self.warmup} of the training; expected above 0, below 1"
            )

    def __call__(self, progress: float) -> float:
        """Return the factor at `progress` in [0, 1]."""
        if progress < self.warmup:
            return Linear(self.start, 1.0, finish=self.warmup)(progress)
        return Cosine(1.0, self.end, begin=self.warmup)(progress)


@dataclass(frozen=True)
class Steps:
    """1 at first, times `factor` from each of `at` on.

    >>> [round(Steps((0.5, 0.75), factor=0.1)(progress), 3) for progress in (0.49, 0.5, 0.75)]
    [1.0, 0.1, 0.01]
    """

    at: tuple[float, ...]
    factor: float = 0.1

    def __call__(self, progress: float) -> float:
        """Return the factor at `progress` in [0, 1]."""
        return self.factor ** sum(progress >= point for point in self.at)

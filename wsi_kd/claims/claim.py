"""What a claim check is: a paper's claim, a small setting in which it is measured, and what must come out."""

import math
from collections.abc import Callable, Sequence
from statistics import fmean, stdev
from typing import NamedTuple


class Observed(NamedTuple):
    """One row of a claim's table: a figure, over seeds."""

    name: str
    """What was measured, with all that tells it from its neighbors: "KD, n=300"."""
    mean: float
    spread: float
    """Standard deviation over the seeds; 0 for one seed."""
    runs: tuple[float, ...]
    """The figure of each seed, in their order."""


class Check(NamedTuple):
    """One thing that must hold for the claim to be seen: at_least <= found <= at_most."""

    says: str
    """What `found` is, so that the sentence goes on with it: "DKD - KD at n=300, in points"."""
    found: float
    at_least: float = -math.inf
    at_most: float = math.inf
    why: str = ""
    """Why this bound, where it asks for less than half of the margin that the design measured."""

    @property
    def holds(self) -> bool:
        """Say whether `found` is where it must be; a NaN is nowhere.

        >>> Check("gap", 0.03, 0.02).holds, Check("gap", float("nan"), 0.02).holds
        (True, False)
        """
        return self.at_least <= self.found <= self.at_most


class Series(NamedTuple):
    """One line of the page's chart."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


class Found(NamedTuple):
    """What one run of a claim gave."""

    observed: Sequence[Observed]
    checks: Sequence[Check]
    series: Sequence[Series] = ()
    """Empty: the page has no chart of this claim."""
    x_label: str = ""
    y_label: str = ""


class Claim(NamedTuple):
    """A paper's claim and how it is measured at small scale."""

    method: str
    """Its name in METHODS or TOOLS and in CLAIMS; of a method also that of its file in configs/kd."""
    paper: str
    """Authors, venue, arXiv number."""
    claims: str
    """What the paper claims, in a sentence."""
    setting: str
    """Data, networks, budget, and what is small about it."""
    run: Callable[[int], Found]
    """From the number of seeds (0, 1, ...) to what was found; the same number gives the same figures."""
    seeds: int
    """How many seeds are run where the user does not say."""
    reference: str
    """What the method's design measured in this setting, with another program."""


def observe(name: str, runs: Sequence[float]) -> Observed:
    """Sum up the figures of the seeds in a row: mean and standard deviation (n - 1 in the denominator).

    Where a figure is not finite, the standard deviation is NaN.

    >>> observe("KD", [0.5, 0.75])
    Observed(name='KD', mean=0.625, spread=0.1767766952966369, runs=(0.5, 0.75))
    """
    figures = tuple(float(figure) for figure in runs)
    spread = stdev(figures) if len(figures) > 1 and all(map(math.isfinite, figures)) else 0.0
    return Observed(name, fmean(figures), spread if math.isfinite(fmean(figures)) else math.nan, figures)

"""Figures of claim checks as text, alike in the terminal and on the page."""

import math
from typing import Final

from wsi_kd.claims.claim import Check, Observed

SMALL_SCALE: Final = (
    "Small-scale checks of what the papers claim, on data that comes with the package: "
    "no reproduction of the papers' ImageNet or CIFAR tables."
)
LARGE: Final = 1000.0
SMALL: Final = 0.1


def figure_text(number: float) -> str:
    """Return a figure with three decimals, large ones without, small ones with three digits.

    >>> [figure_text(number) for number in (0.8134, 4000.0, 0.0295, -1.2e-16, 0.0, float("nan"))]
    ['0.813', '4,000', '0.0295', '-1.2e-16', '0', 'nan']
    """
    if not math.isfinite(number):
        return str(float(number))
    if abs(number) >= LARGE:
        return f"{number:,.0f}"
    return f"{number:.3f}" if abs(number) >= SMALL else f"{number:.3g}"


def spread_text(row: Observed) -> str:
    """Return the mean and, of several seeds, the standard deviation, to the same place.

    >>> spread_text(Observed("KD", 0.8, 0.02, (0.78, 0.82)))
    '0.800 ± 0.020'
    >>> spread_text(Observed("KD", 0.8, 0.0, (0.8,)))
    '0.800'
    """
    mean = figure_text(row.mean)
    if len(row.runs) == 1:
        return mean
    spread = f"{row.spread:.3f}" if SMALL <= abs(row.mean) < LARGE else figure_text(row.spread)
    return f"{mean} \N{PLUS-MINUS SIGN} {spread}"


def required_text(check: Check) -> str:
    """Return where a check's figure must be.

    >>> required_text(Check("gain", 0.3, 0.02)), required_text(Check("error", 0.0, at_most=1e-12))
    ('at least 0.02', 'at most 1e-12')
    >>> required_text(Check("difference", 0.0, -0.01, 0.01))
    '-0.01 to 0.01'
    """
    least, most = figure_text(check.at_least), figure_text(check.at_most)
    if math.isinf(check.at_most):
        return f"at least {least}"
    return f"at most {most}" if math.isinf(check.at_least) else f"{least} to {most}"


def outcome_text(*, held: int, checks: int) -> str:
    """Return how many of a claim's checks hold.

    >>> outcome_text(held=3, checks=4), outcome_text(held=4, checks=4), outcome_text(held=0, checks=0)
    ('FAIL (3 of 4)', 'pass (4 of 4)', 'FAIL (0 of 0)')
    """
    return f"{'pass' if 0 < checks == held else 'FAIL'} ({held} of {checks})"

"""Numbers as text, alike on the whole page: three decimals, intervals in brackets, `n/a` with its reason."""

from collections.abc import Mapping
from typing import Any

from wsi_kd.report.page import Cell

UNDEFINED = "n/a"


def count_cell(value: int) -> Cell:
    """Show a count.

    >>> count_cell(20000).text
    '20,000'
    """
    return Cell(f"{value:,}", number=float(value))


def number_cell(value: float | None, reason: str = "") -> Cell:
    """Show one number, or why there is none.

    >>> number_cell(0.93).text, number_cell(None, "no positives among 8")
    ('0.930', Cell(text='n/a', note='no positives among 8', number=None))
    """
    return Cell(UNDEFINED, note=reason) if value is None else Cell(f"{value:.3f}", number=value)


def metric_cell(metric: Mapping[str, Any]) -> Cell:
    """Show a `MetricValue` of metrics.json."""
    return number_cell(metric["value"], metric["reason"])


def interval_cell(pooled: Mapping[str, Any]) -> Cell:
    """Show a `PooledMetric` of metrics.json as estimate and interval.

    >>> interval_cell({"estimate": 0.93, "low": 0.87, "high": 0.97, "reason": ""}).text
    '0.930 (0.870 to 0.970)'
    """
    estimate, low, high = pooled["estimate"], pooled["low"], pooled["high"]
    if estimate is None or low is None or high is None:
        return number_cell(estimate, pooled["reason"])
    return Cell(f"{estimate:.3f} ({low:.3f} to {high:.3f})", note=pooled["reason"], number=estimate)


def spread_cell(spread: Mapping[str, Any]) -> Cell:
    """Show a `Spread` of metrics.json as mean and standard deviation.

    >>> spread_cell({"mean": 0.93, "sd": 0.02, "count": 5}).text
    '0.930 ± 0.020'
    """
    mean, deviation, count = spread["mean"], spread["sd"], spread["count"]
    if mean is None:
        return Cell(UNDEFINED, note="undefined in each of them" if count else "none counted")
    if deviation is None:
        return Cell(f"{mean:.3f}", note="one value: no spread", number=mean)
    return Cell(f"{mean:.3f} \N{PLUS-MINUS SIGN} {deviation:.3f}", number=mean)

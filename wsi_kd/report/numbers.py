"""Numbers as text, alike on the whole page: three decimals, the interval below, `n/a` with its reason."""

from collections.abc import Mapping
from typing import Any

from wsi_kd.report.page import Cell

UNDEFINED = "n/a"
SMALLEST_P = 0.001
TO = "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}"


def counted(count: int, noun: str) -> str:
    """Write a count before its noun.

    >>> counted(1, "slide"), counted(20000, "slide")
    ('1 slide', '20,000 slides')
    """
    return f"{count:,} {noun if count == 1 else f'{noun}s'}"


def count_cell(value: int) -> Cell:
    """Show a count.

    >>> count_cell(20000).text
    '20,000'
    """
    return Cell(f"{value:,}", number=float(value))


def number_cell(value: float | None, note: str = "") -> Cell:
    """Show one number, or `n/a`; the note says why, or more.

    >>> number_cell(0.93).text, number_cell(None, "no positives among 8")
    ('0.930', Cell(text='n/a', note='no positives among 8', number=None))
    """
    return Cell(UNDEFINED if value is None else f"{value:.3f}", note=note, number=value)


def known_cell(value: float | None, absent: str) -> Cell:
    """Show one number, or `n/a` and why it is absent.

    >>> known_cell(0.5, "no student").note, known_cell(None, "no student").note
    ('', 'no student')
    """
    return number_cell(value, absent if value is None else "")


def metric_cell(metric: Mapping[str, Any]) -> Cell:
    """Show a `MetricValue` of metrics.json."""
    return number_cell(metric["value"], metric["reason"])


def interval_cell(pooled: Mapping[str, Any]) -> Cell:
    """Show a `PooledMetric` of metrics.json: the estimate, below it the interval or why there is none.

    >>> interval_cell({"estimate": 0.93, "low": 0.87, "high": 0.97, "reason": ""}).note.replace(TO, " to ")
    '0.870 to 0.970'
    """
    low, high = pooled["low"], pooled["high"]
    interval = "" if low is None or high is None else f"{low:.3f}{TO}{high:.3f}"
    notes = (interval, pooled["reason"])
    return number_cell(pooled["estimate"], "; ".join(note for note in notes if note))


def difference_cell(difference: Mapping[str, Any]) -> Cell:
    """Show a `Difference` of metrics.json with its sign, below it the interval or why there is none.

    >>> difference_cell({"estimate": 0.02, "low": -0.01, "high": 0.05, "reason": ""}).note.replace(TO, " to ")
    '-0.010 to +0.050'
    """
    value, low, high = (difference[key] for key in ("estimate", "low", "high"))
    interval = "" if low is None or high is None else f"{low:+.3f}{TO}{high:+.3f}"
    note = "; ".join(text for text in (interval, difference["reason"]) if text)
    return Cell(UNDEFINED if value is None else f"{value:+.3f}", note=note, number=value)


def p_cell(difference: Mapping[str, Any]) -> Cell:
    """Show the p-value of a `Difference`; very small ones by their bound.

    >>> p_cell({"p_value": 0.0312, "test": "DeLong"}), p_cell({"p_value": 1e-9, "test": "DeLong"}).text
    (Cell(text='0.031', note='', number=0.0312), '< 0.001')
    """
    value = difference["p_value"]
    if value is None:
        return Cell(UNDEFINED)
    return Cell("< 0.001" if value < SMALLEST_P else f"{value:.3f}", number=value)


def spread_cell(spread: Mapping[str, Any]) -> Cell:
    """Show a `Spread` of metrics.json: the mean, below it the standard deviation.

    >>> spread_cell({"mean": 0.93, "sd": 0.02, "count": 5})
    Cell(text='0.930', note='± 0.020', number=0.93)
    """
    mean, deviation = spread["mean"], spread["sd"]
    if mean is None:
        return number_cell(None, "no value is defined")
    return number_cell(mean, "one value" if deviation is None else f"\N{PLUS-MINUS SIGN} {deviation:.3f}")

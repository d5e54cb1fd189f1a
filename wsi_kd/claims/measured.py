"""One claim as it was run here: how it is run alike everywhere, and its form in a JSON file."""

import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from wsi_kd.claims.claim import Check, Claim, Found, Observed, Series
from wsi_kd.kd.seeding import seeded


class Measured(NamedTuple):
    """What one claim gave, with how many seeds, in what time."""

    method: str
    seeds: int
    seconds: float
    """Processor time: what it takes on a core of its own, to a tenth."""
    found: Found

    @property
    def passed(self) -> bool:
        """Say whether every check holds; a claim without checks has shown nothing."""
        return bool(self.found.checks) and not self.failed

    @property
    def failed(self) -> list[Check]:
        """List the checks that do not hold."""
        return [check for check in self.found.checks if not check.holds]


def measure(claim: Claim, *, seeds: int) -> Measured:
    """Run a claim on one thread, from a seeded state: the same figures in whatever order and process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    began = time.process_time()
    try:
        with seeded(0, 0, device=torch.device("cpu")):
            found = claim.run(seeds)
    finally:
        torch.set_num_threads(threads)
    return Measured(claim.method, seeds, round(time.process_time() - began, 1), found)


def to_json(measured: Measured) -> dict[str, Any]:
    """Return the JSON form; what JSON has no number for becomes "nan", "inf" or "-inf"."""
    found = measured.found
    return {
        "method": measured.method,
        "seeds": measured.seeds,
        "seconds": measured.seconds,
        "passed": measured.passed,
        "observed": [
            {
                "name": row.name,
                "mean": _said(row.mean),
                "spread": _said(row.spread),
                "runs": [_said(figure) for figure in row.runs],
            }
            for row in found.observed
        ],
        "checks": [
            {
                "says": check.says,
                "found": _said(check.found),
                "at_least": _said(check.at_least),
                "at_most": _said(check.at_most),
                "why": check.why,
                "holds": check.holds,
            }
            for check in found.checks
        ],
        "series": [
            {"name": line.name, "x": [_said(x) for x in line.x], "y": [_said(y) for y in line.y]}
            for line in found.series
        ],
        "x_label": found.x_label,
        "y_label": found.y_label,
    }


def from_json(value: Mapping[str, Any]) -> Measured:
    """Return what `to_json` made its argument of; keys beside those are passed over.

    Raises:
        KeyError, TypeError, ValueError: `to_json` did not make it.
    """
    observed = [
        Observed(row["name"], float(row["mean"]), float(row["spread"]), _numbers(row["runs"]))
        for row in value["observed"]
    ]
    checks = [
        Check(
            check["says"],
            float(check["found"]),
            at_least=float(check["at_least"]),
            at_most=float(check["at_most"]),
            why=check["why"],
        )
        for check in value["checks"]
    ]
    series = [Series(line["name"], _numbers(line["x"]), _numbers(line["y"])) for line in value["series"]]
    found = Found(observed, checks, series, x_label=value["x_label"], y_label=value["y_label"])
    return Measured(value["method"], value["seeds"], float(value["seconds"]), found)


def _numbers(said: list[float | str]) -> tuple[float, ...]:
    return tuple(float(number) for number in said)


def _said(number: float) -> float | str:
    """Return a number as JSON can hold it.

    >>> _said(0.5), _said(float("nan")), _said(float("-inf"))
    (0.5, 'nan', '-inf')
    """
    plain = float(number)
    return plain if math.isfinite(plain) else str(plain)

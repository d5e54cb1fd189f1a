"""The tables of compress_slides.py: means and deviations over folds and seeds, and differences run by run."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any, Final, TypeAlias

Run: TypeAlias = dict[str, Any]
"""row, fold, seed, bag AUC, instance AUC."""
SCORES: Final = ("bag AUC", "instance AUC")


def results(
    found: Sequence[Run],
    costs: Mapping[str, Mapping[str, float]],
    *,
    rows: Mapping[str, tuple[str, ...]],
    pairs: Sequence[tuple[str, str]],
) -> str:
    """Return both tables as markdown."""
    return f"{table(found, costs, rows=rows)}\n{differences(found, pairs)}"


def table(
    found: Sequence[Run], costs: Mapping[str, Mapping[str, float]], *, rows: Mapping[str, tuple[str, ...]]
) -> str:
    """Markdown: one row a way, mean and deviation over folds and seeds."""
    heads = ["encoder", "MIL model", "learned from", "bag AUC", "instance AUC", "parameters", "weights, MB"]
    heads += ["encoder, CPU s per 1,000 tiles", "MIL, CPU ms per 1,000 tiles"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row, names in rows.items():
        runs = [run for run in found if run["row"] == row]
        if not runs:
            continue
        cost = costs[row]
        cells = [*names, *(_spread([run[key] for run in runs]) for key in SCORES)]
        cells += [f"{cost['parameters']:,.0f}", f"{cost['weights MB']:.2f}"]
        cells += [f"{cost['s per 1,000 tiles']:.2f}", f"{cost['MIL ms per slide']:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def differences(found: Sequence[Run], pairs: Sequence[tuple[str, str]]) -> str:
    """Markdown: one row less another, run by run (same fold and seed)."""
    runs = {(run["row"], run["fold"], run["seed"]): run for run in found}
    lines = ["| difference | bag AUC | instance AUC |", "|---|---|---|"]
    for ours, other in pairs:
        both = [key[1:] for key in runs if key[0] == ours and (other, *key[1:]) in runs]
        cells = [
            _spread([runs[ours, *key][what] - runs[other, *key][what] for key in both], sign="+")
            for what in SCORES
        ]
        lines.append(f"| {ours} less {other} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float], sign: str = "") -> str:
    return f"{mean(values):{sign}.3f} ± {stdev(values) if len(values) > 1 else 0.0:.3f}"

"""Compact tables of experiments that benchmarks/weno.py measured: methods by problems.

    python benchmarks/weno_tables.py results/weno/gaussian/metrics.json

Prints two tables an experiment: the bag AUC of each method's answer (its student's pooled score where it has
a student, else its teacher's) with p against the reference, and the instance AUC of its tile score (the
student, else the evidence). Cells: selected epoch, mean +- standard deviation over seeds; then the last
epoch's mean.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from experiment_file import Experiment
from experiment_jobs import NO_EPOCH, Row
from experiment_problems import problem_names
from experiment_tables import against_reference, per_seed, summary
from wsi_kd.core.files import read_json

BAG_COLUMN: Final = "bag_deployed"
INSTANCE_COLUMNS: Final = ("auc_student", "auc_evidence")
"""The first that a method has."""
REMAKE: Final = "python benchmarks/weno.py"


def compact_tables(experiment: Experiment, rows: Sequence[Row]) -> str:
    """Return both tables in Markdown; the second is left out where instances have no truth."""
    problems = [
        name for name in problem_names(experiment.problem) if any(row.problem == name for row in rows)
    ]
    methods = [
        name
        for name in (*experiment.baselines, *experiment.methods)
        if any(row.method == name for row in rows)
    ]
    bags = [
        [name, *(_bag_cell(experiment, _of(rows, problem), name) for problem in problems)] for name in methods
    ]
    instances = [
        [name, *(_instance_cell(_of(rows, problem), name) for problem in problems)] for name in methods
    ]
    tables = [_table(f"bag AUC (p against {experiment.compare_with})", problems, bags)]
    if any(cell for line in instances for cell in line[1:]):
        tables.append(_table("instance AUC", problems, instances))
    return f"### {experiment.title}\n\n" + "\n".join(tables)


def _table(heading: str, problems: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    table = [f"| {heading} | {' | '.join(problems)} |", f"|---|{'---|' * len(problems)}"]
    table += [f"| {' | '.join(line)} |" for line in lines if any(line[1:])]
    return "\n".join(table) + "\n"


def _of(rows: Sequence[Row], problem: str) -> list[Row]:
    return [row for row in rows if row.problem == problem]


def _bag_cell(experiment: Experiment, rows: Sequence[Row], method: str) -> str:
    found = _of_epoch(rows, method, "selected")
    cell = _cell(rows, method, BAG_COLUMN)
    if not cell or method == experiment.compare_with:
        return cell
    paired = against_reference(experiment, rows, found)
    return cell if paired is None or paired.p_value is None else f"{cell} (p {paired.p_value:.2f})"


def _instance_cell(rows: Sequence[Row], method: str) -> str:
    cells = (_cell(rows, method, column) for column in INSTANCE_COLUMNS)
    return next((cell for cell in cells if cell), "")


def _cell(rows: Sequence[Row], method: str, column: str) -> str:
    chosen = summary(per_seed(_of_epoch(rows, method, "selected"), column))
    last = per_seed([row for row in rows if (row.method, row.epoch) == (method, "last")], column)
    return f"{chosen}; {fmean(last):.3f}" if last else chosen


def _of_epoch(rows: Sequence[Row], method: str, epoch: str) -> list[Row]:
    return [row for row in rows if row.method == method and row.epoch in (epoch, NO_EPOCH)]


def main() -> None:
    """Print the tables of the files that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("metrics", nargs="+", type=Path)
    for path in parser.parse_args().metrics:
        found: dict[str, Any] = read_json(path, remake=REMAKE)
        experiment = Experiment.model_validate(found["settings"]["experiment"])
        print(compact_tables(experiment, [Row(**row) for row in found["rows"]]))


if __name__ == "__main__":
    main()

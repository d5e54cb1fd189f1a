"""Compact tables, from rows made by hand."""

from pathlib import Path

import pytest

from experiment_file import Experiment, read_experiment
from experiment_jobs import Row
from weno_tables import compact_tables

FOLDER = Path(__file__).parents[2] / "configs" / "experiments"


@pytest.fixture
def experiment() -> Experiment:
    return read_experiment(FOLDER / "gaussian.yaml")


def row(problem: str, method: str, epoch: str, *, seed: int, **measures: float) -> Row:
    return Row(
        problem=problem,
        method=method,
        epoch=epoch,
        seed=seed,
        fold=0,
        bags={"train": 2, "val": 2, "scored": 2},
        seconds=1.0,
        measures=measures,
    )


def test_cells_hold_both_epochs_and_the_paired_test(experiment: Experiment) -> None:
    rows = []
    for seed, gain in enumerate((0.1, 0.2, 0.3)):
        rows += [
            row("single_10", "ABMIL", epoch, seed=seed, bag_deployed=0.5, auc_evidence=0.25)
            for epoch in ("selected", "last")
        ]
        for epoch, more in (("selected", 0.0), ("last", 0.05)):
            measures = {"bag_deployed": 0.5 + gain + more, "auc_evidence": 0.1, "auc_student": 0.75}
            rows.append(row("single_10", "WENO evidence", epoch, seed=seed, **measures))

    lines = compact_tables(experiment, rows).splitlines()

    assert "| ABMIL | 0.500 +- 0.000; 0.500 |" in lines
    # t = 0.2 / (0.1 / sqrt 3) = 3.46 on two degrees of freedom
    assert "| WENO evidence | 0.700 +- 0.100; 0.750 (p 0.07) |" in lines
    assert "| ABMIL | 0.250 +- 0.000; 0.250 |" in lines
    assert "| WENO evidence | 0.750 +- 0.000; 0.750 |" in lines


def test_problems_without_the_truth_of_instances_have_one_table(experiment: Experiment) -> None:
    rows = [row("single_05", "ABMIL", "selected", seed=0, bag_deployed=1.0)]

    text = compact_tables(experiment, rows)

    assert "| ABMIL | 1.000 |" in text
    assert "instance AUC" not in text

"""The Gaussian benchmark: its draws are the published ones, its scores and table are right."""

import runpy
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "weno_gaussian.py"


@pytest.fixture(scope="module")
def benchmark():
    return runpy.run_path(str(SCRIPT), run_name="weno_gaussian")


@pytest.mark.shared_data
@pytest.mark.parametrize("problem", ["two_types_10", "two_types_05", "single_10", "single_05"])
def test_draws_are_those_of_the_published_figures(benchmark, shared_reference, problem):
    reference = runpy.run_path(str(shared_reference / "gaussian_bags.py"), run_name="reference")
    kind, percent = problem.rsplit("_", 1)
    features, labels, bag_labels, hard = reference["make"](kind, 1003, int(percent) / 100)
    drawn = benchmark["draw_bags"](benchmark["PROBLEMS"][problem], 1003)
    np.testing.assert_array_equal(drawn.bags.features, features.reshape(-1, 64))
    np.testing.assert_array_equal(drawn.bags.tile_labels, labels.reshape(-1))
    np.testing.assert_array_equal(drawn.bags.labels, bag_labels)
    np.testing.assert_array_equal(drawn.hard, hard.reshape(-1))


def test_scores_know_bags_instances_and_hard_positives(benchmark):
    drawn = benchmark["draw_bags"](benchmark["PROBLEMS"]["two_types_10"], 1)
    truth = drawn.bags.tile_labels.astype(np.float64)
    columns = {"student": truth - 2.0 * drawn.hard, "bag_student": -drawn.bags.labels.astype(np.float64)}
    assert benchmark["score"](columns, drawn) == {"student": 0.5, "bag_student": 0.0, "student_hard": 0.0}


def test_the_table_holds_mean_and_spread(benchmark):
    row = benchmark["Row"]
    rows = [row("p", "m", "last", seed, {"student": value}) for seed, value in enumerate((0.5, 0.75))]
    rows.append(row("other", "m", "last", 0, {"student": 0.0}))
    last = benchmark["table"](rows, "p").splitlines()[-1]
    assert last == "| m | last |  |  |  |  | 0.625 +- 0.177 |  |"

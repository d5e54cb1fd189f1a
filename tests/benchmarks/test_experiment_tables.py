"""The tables' arithmetic on rows made by hand."""

import math
from pathlib import Path

import pytest
from scipy.stats import ttest_rel

from experiment_file import read_experiment
from experiment_jobs import Row
from experiment_tables import experiment_tables, paired_test

FILE = """
title: Small
about: About it.
seeds: [0, 1, 2]
compare_with: ABMIL
problem: {family: table, table: musk1, folds: 4}
baselines: [bag_mean_logistic]
methods:
  ABMIL: {recipe: abmil}
  WENO: {recipe: weno}
published: [{name: ABMIL, source: a paper, values: {accuracy_even_teacher: 0.892}}]
"""


@pytest.fixture
def experiment(tmp_path: Path):
    (tmp_path / "small.yaml").write_text(FILE)
    return read_experiment(tmp_path / "small.yaml")


def row(method, epoch, *, seed, fold=0, **measures):
    bags = {"train": 46, "val": 23, "scored": 23}
    return Row("musk1", method, epoch, seed, fold, bags, 1.0, measures)


def cells(text, name):
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith(f"| {name} ")
    ]


def test_folds_are_averaged_before_seeds(experiment):
    values = {(0, 0): 0.5, (0, 1): 0.7, (1, 0): 0.9, (1, 1): 0.9}
    rows = [
        row("ABMIL", "selected", seed=seed, fold=fold, bag_teacher=value, bag_deployed=value)
        for (seed, fold), value in values.items()
    ]
    text = experiment_tables(experiment, rows)
    assert ["ABMIL", "selected", "0.750 +- 0.212", ""] in cells(text, "ABMIL")  # of 0.6 and 0.9
    assert "Bags: 46 train, 23 val, 23 scored (of the first fold). Seeds: 2. Folds: 2." in text
    assert "n_test / n_rest = 0.333" in text
    assert ["ABMIL (a paper)", "published", "", "0.892"] in cells(text, "ABMIL")


def test_answers_are_compared_with_the_same_epoch_of_the_same_draw(experiment):
    rows = [row("ABMIL", "selected", seed=seed, bag_deployed=0.5) for seed in range(3)]
    rows += [row("ABMIL", "last", seed=seed, bag_deployed=0.9) for seed in range(3)]
    rows += [
        row("WENO", "selected", seed=seed, bag_deployed=value) for seed, value in enumerate((0.6, 0.7, 0.8))
    ]
    rows += [row("WENO", "last", seed=seed, bag_deployed=0.9) for seed in (1, 2)]
    rows += [row("bag_mean_logistic", "none", seed=0, bag_deployed=0.4)]
    text = experiment_tables(experiment, rows)
    selected, last = cells(text, "WENO")
    expected = paired_test([0.1, 0.2, 0.3], test_to_rest=1 / 3).p_value
    assert selected[2] == f"+0.200 (p {expected:.3f})"
    assert last[2] == "+0.000 (p 1.000)"
    assert cells(text, "bag_mean_logistic")[0][1:3] == ["", "-0.100"]  # one draw: no p


def test_columns_that_nobody_fills_are_left_out(experiment):
    text = experiment_tables(experiment, [row("ABMIL", "last", seed=0, auc_student=0.5, ap_student=0.25)])
    heads = [line for line in text.splitlines() if line.startswith("| method")]
    assert heads == [
        "| method | epoch | instance AUC, student | accuracy at 0.5, teacher |",
        "| method | epoch | instance AP, student |",
    ]
    assert cells(text, "ABMIL")[0] == ["ABMIL", "last", "0.500", ""]


def test_fresh_draws_have_the_plain_paired_t_test():
    first, second = [0.9, 0.8, 0.95, 0.7], [0.85, 0.81, 0.9, 0.6]
    differences = [one - other for one, other in zip(first, second, strict=True)]
    expected = ttest_rel(first, second).pvalue
    assert paired_test(differences, test_to_rest=0.0).p_value == pytest.approx(expected, abs=1e-4)


def test_shared_bags_widen_the_test():
    """Mean 2, deviation 1, n = 3: t^2 = 12, with r = 1/3 6; two degrees: p = 1 - t / sqrt(t^2 + 2)."""
    narrow, wide = (paired_test([0.1, 0.2, 0.3], test_to_rest=ratio).p_value for ratio in (0.0, 1 / 3))
    assert narrow == pytest.approx(1.0 - math.sqrt(12 / 14), abs=5e-5)
    assert wide == pytest.approx(1.0 - math.sqrt(6 / 8), abs=5e-5)


def test_limits_of_the_test():
    assert paired_test([0.25], test_to_rest=0.0) == (0.25, None)
    assert paired_test([0.0, 0.0], test_to_rest=0.0) == (0.0, 1.0)
    assert paired_test([0.25, 0.25], test_to_rest=0.0) == (0.25, 0.0)

"""benchmarks/weno.py as a user runs it, on a table of fifteen small molecules."""

import json

import numpy as np
import pytest

import weno

FILE = """
title: Tiny
seeds: [0, 1]
compare_with: ABMIL
baselines: [instance_logistic]
problem: {family: table, table: musk1, folds: 3}
train: {epochs: 2, hidden_dim: 4, attention_dim: 2, precision: float32, device: cpu, student_pooling: max}
methods:
  ABMIL: {recipe: abmil}
  WENO: {recipe: weno}
"""


@pytest.fixture
def place(tmp_path):
    generator = np.random.default_rng(0)
    lines = []
    for molecule in range(15):
        label = molecule % 2
        for shape in range(3):
            values = generator.standard_normal(4) + 3.0 * (label and shape == 0)
            lines.append(f"m{molecule},{shape},{','.join(f'{value:.3f}' for value in values)},{label}.")
    (tmp_path / "mil").mkdir()
    (tmp_path / "mil" / "misvm_musk1.data").write_text("\n".join(lines))
    (tmp_path / "tiny.yaml").write_text(FILE)
    return tmp_path


def called(place, *more):
    arguments = [place / "tiny.yaml", "--data", place, "--out", place / "out", "--processes", 1, *more]
    return weno.main([str(argument) for argument in arguments])


def metrics(place):
    return json.loads((place / "out" / "tiny" / "metrics.json").read_text())


def test_every_job_is_measured_and_shown(place, capsys):
    assert called(place) == 0
    rows = metrics(place)["rows"]
    assert len(rows) == 2 * 3 * (1 + 2 * 2)  # seeds, folds; a baseline, two methods with two epochs each
    assert {row["epoch"] for row in rows if row["method"] == "WENO"} == {"selected", "last"}
    assert all(0.0 <= value <= 1.0 for row in rows for value in row["measures"].values())
    shown, told = capsys.readouterr()
    assert shown == (place / "out" / "tiny" / "table.md").read_text()
    assert shown.count("| WENO |") == 2
    assert "tiny 18/18" in told


def test_resumed_runs_measure_only_what_is_missing(place, capsys, monkeypatch):
    assert called(place, "--methods", "ABMIL") == 0
    first = metrics(place)["rows"]
    text = (place / "tiny.yaml").read_text()
    (place / "tiny.yaml").write_text(text.replace("{recipe: weno}", "{recipe: weno, train: {epochs: 1}}"))
    assert called(place, "--resume") == 0
    told = capsys.readouterr().err
    assert "6 of 18 jobs are done already, 0 by other code" in told
    assert "tiny 12/12" in told
    assert [row for row in metrics(place)["rows"] if row["method"] == "ABMIL"] == first
    assert called(place, "--resume") == 0
    assert "18 of 18 jobs are done already, 0 by other code" in capsys.readouterr().err
    monkeypatch.setattr(weno, "_code_hash", lambda: "tomorrow's")
    assert called(place, "--resume") == 0
    assert "18 of 18 jobs are done already, 18 by other code" in capsys.readouterr().err


def test_equal_seeds_give_equal_figures(place):
    called(place, "--seeds", 1, "--methods", "WENO")
    first = [row["measures"] for row in metrics(place)["rows"]]
    called(place, "--seeds", 1, "--methods", "WENO")
    assert [row["measures"] for row in metrics(place)["rows"]] == first
    called(place, "--seeds", 2, "--methods", "WENO")
    assert [row["measures"] for row in metrics(place)["rows"]] != first


def test_a_job_that_fails_is_told_and_the_others_go_on(place, capsys):
    text = (place / "tiny.yaml").read_text()
    (place / "tiny.yaml").write_text(text.replace("[instance_logistic]", "[supervised_logistic]"))
    assert called(place, "--seeds", 0) == 1
    told = capsys.readouterr().err
    assert told.count("needs the truth of instances") == 3
    assert told.splitlines()[-1] == "error: 3 jobs failed; the lines above and metrics.json say why"
    assert len(metrics(place)["faults"]) == 3
    assert {row["method"] for row in metrics(place)["rows"]} == {"ABMIL", "WENO"}


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (["--methods", "WENNO"], "error: unknown method 'WENNO'; known: ABMIL, WENO, instance_logistic"),
        (["--problems", "musk2"], "error: unknown problem 'musk2'; known: musk1"),
    ],
)
def test_unknown_names_end_in_one_line(place, capsys, more, fault):
    assert called(place, *more) == 2
    assert capsys.readouterr().err.startswith(fault)
    assert not (place / "out").exists()


@pytest.mark.slow
def test_two_processes_measure_the_same(place):
    called(place, "--seeds", 0)
    alone = sorted(metrics(place)["rows"], key=str)
    arguments = ["--data", place, "--out", place / "two", "--processes", 2, "--seeds", 0]
    assert weno.main([str(argument) for argument in (place / "tiny.yaml", *arguments)]) == 0
    together = json.loads((place / "two" / "tiny" / "metrics.json").read_text())["rows"]

    def timeless(rows):
        return sorted(str({**row, "seconds": 0}) for row in rows)

    assert timeless(together) == timeless(alone)

"""What seeds disagree on, by hand, in the table of all test slides."""

import csv
from pathlib import Path

import pytest
from report_runs import RunMaker

from wsi_kd.inference.tables import PredictionTable
from wsi_kd.steps.evaluated_table import write_test_predictions
from wsi_kd.steps.scored_models import ModelPredictions

CLASSES = ["normal", "tumor"]
ROW = RunMaker().row(0, recipe="weno", seed=0)


def scored(seed, *, fold=0, recipe="weno", slides):
    """A model's test slides: id -> (teacher, student) probability."""
    rows = tuple(
        ROW._replace(slide_id=slide_id, teacher_probability=teacher, student_probability=student)
        for slide_id, (teacher, student) in slides.items()
    )
    header = {"recipe": recipe, "seed": seed, "fold": fold}
    return ModelPredictions(Path("unused"), PredictionTable(rows, header), rows)


def written(tmp_path, models):
    write_test_predictions(tmp_path / "p.csv", models, CLASSES)
    with (tmp_path / "p.csv").open(newline="") as handle:
        return [
            (
                row["recipe"],
                row["seed"],
                row["slide_id"],
                row["teacher_probability_sd"],
                row["student_probability_sd"],
            )
            for row in csv.DictReader(handle)
        ]


def test_the_spread_is_over_the_seeds_of_one_recipe_and_fold(tmp_path):
    """a: teacher 0.1, 0.2, 0.6: sd sqrt(0.14 / 2); b is tested in fold 1 by other models."""
    models = [
        scored(0, slides={"a": (0.1, 0.5)}),
        scored(1, slides={"a": (0.2, 0.5)}),
        scored(2, slides={"a": (0.6, 0.5)}),
        scored(0, fold=1, slides={"b": (0.3, 0.2)}),
        scored(1, fold=1, slides={"b": (0.3, 0.4)}),
        scored(0, recipe="abmil", slides={"a": (0.9, None)}),
    ]
    rows = written(tmp_path, models)
    assert [row[:3] for row in rows[:4]] == [
        ("weno", "0", "a"),
        ("weno", "1", "a"),
        ("weno", "2", "a"),
        ("weno", "0", "b"),
    ]
    for row in rows[:3]:
        assert float(row[3]) == pytest.approx(0.07**0.5)
        assert float(row[4]) == 0.0
    assert float(rows[3][3]) == 0.0
    assert float(rows[3][4]) == pytest.approx(0.02**0.5)
    assert rows[5][3:] == ("", "")


def test_one_seed_has_no_spread(tmp_path):
    assert written(tmp_path, [scored(0, slides={"a": (0.1, 0.5)})])[0][3:] == ("", "")

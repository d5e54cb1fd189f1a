"""Recipes through the steps: train writes a model of each, predict scores slides, a kill is survived."""

import csv

import pytest
from trained_runs import TrainedRun
from training_cohort import FILES

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.settings.models import TrainSettings
from wsi_kd.steps import train as train_step
from wsi_kd.steps.train_recipes import RECIPES
from wsi_kd.training.checkpoint import load_model

TRAIN = {
    "epochs": 3,
    "hidden_dim": 8,
    "attention_dim": 4,
    "device": "cpu",
    "top_k": 3,
    "instance": {"pooling": "topk"},
    "ins": {"pooling": "max", "warm_up_epochs": 1},
    "mhim": {"warm_up_epochs": 1},
}
TEACHERS = {"instance": "top_k_pooling", "ins": "max_pooling"}


@pytest.fixture
def run(tmp_path):
    return TrainedRun(tmp_path, TRAIN)


def test_settings_and_steps_name_the_same_recipes():
    named = TrainSettings.model_json_schema()["properties"]["recipes"]["items"]["enum"]
    assert named == list(RECIPES)


@pytest.mark.parametrize("recipe", ["instance", "ins", "mhim", "auto"])
def test_what_train_writes_predict_scores(recipe, run):
    model_dir = run.train(recipe)
    assert {path.name for path in model_dir.iterdir()} == FILES
    loaded = load_model(model_dir)
    assert loaded.header["recipe"] == recipe
    assert (
        loaded.header["teacher"] == loaded.header["model"]["teacher"] == TEACHERS.get(recipe, "gated_abmil")
    )
    with (model_dir / "history.csv").open() as handle:
        history = list(csv.DictReader(handle))
    chosen = history[0].get("chosen")
    assert (chosen is not None) == (recipe == "auto")
    assert (loaded.model.student is not None) == (chosen == "weno")
    rows = run.predict_with(model_dir)
    assert [row.slide_id for row in rows] == [*sorted(run.folds[0].val), *sorted(run.folds[0].test)]
    assert all(0.0 < row.teacher_probability < 1.0 for row in rows)
    assert all((row.student_probability is not None) == (chosen == "weno") for row in rows)


def test_top_k_reaches_the_teacher_of_the_checkpoint(run):
    assert load_model(run.train("instance", top_k=2)).model.teacher.top_k == 2


def test_a_killed_auto_goes_on_and_leaves_no_state(run, monkeypatch):
    whole = run.train("auto", out_dir=run.root / "whole")
    saved = train_step.save_model

    def full_disk(*_args, **_kwargs):
        raise RunFailed("no space left on the disk")

    monkeypatch.setattr(train_step, "save_model", full_disk)
    with pytest.raises(RunFailed):
        run.train("auto", out_dir=run.root / "again")
    assert (run.root / "again" / "abmil" / "state.safetensors").is_file()
    assert (run.root / "again" / "weno" / "state.safetensors").is_file()
    monkeypatch.setattr(train_step, "save_model", saved)
    again = run.train("auto", out_dir=run.root / "again")
    assert {path.name for path in again.iterdir()} == FILES
    assert all((again / name).read_bytes() == (whole / name).read_bytes() for name in FILES)


def test_auto_refuses_what_weno_refuses_before_anything_is_trained(run):
    weno = {"schedule": "released", "pseudo_label": "minmax_global"}
    with pytest.raises(BadInput, match="transmil"):
        run.train("auto", teacher="transmil", weno=weno)
    assert not (run.root / "models").exists()

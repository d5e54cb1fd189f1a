"""Step train: features and a split in, two checkpoints and a history out; kills, refusals, one scoring."""

import csv

import numpy as np
import pytest
import torch
from training_cohort import FILES, HEADER, Cohort

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.evaluation.classification import choose_threshold
from wsi_kd.inference.likeness import calibrate_limit, limit_of
from wsi_kd.inference.predict import predict_bag
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps import train as train_step
from wsi_kd.training.checkpoint import load_model


@pytest.fixture
def cohort(tmp_path):
    return Cohort(tmp_path)


@pytest.mark.parametrize("recipe", ["abmil", "weno"])
def test_checkpoints_carry_what_rebuilds_them(cohort, recipe):
    out_dir = cohort.train(recipe)
    assert {path.name for path in out_dir.iterdir()} == FILES
    loaded, last = load_model(out_dir), load_model(out_dir, name="last")
    header = loaded.header
    assert header["recipe"] == recipe
    assert (header["seed"], header["fold"], header["classes"]) == (3, 0, ["normal", "tumor"])
    assert {key: header[key] for key in ("encoder", "encoder_settings", "weights_hash", "feature_dim")} == {
        key: HEADER[key] for key in ("encoder", "encoder_settings", "weights_hash", "feature_dim")
    }
    assert set(header["sections"]) == {"slides", "mask", "tile", "stain", "embed"}
    assert parse_settings(header["sections"], where="header").tile.tile_px == 256
    assert (loaded.model.student is None) == (recipe == "abmil")
    assert (header["thresholds"]["student"] is None) == (recipe == "abmil")
    assert last.header["epoch"] == 5
    with (out_dir / "history.csv").open() as handle:
        history = list(csv.DictReader(handle))
    losses = [float(row["selection_loss"]) for row in history]
    assert header["epoch"] == int(np.argmin(losses))
    assert float(history[-1]["val_teacher_auc"]) == 1.0


def test_thresholds_are_chosen_on_the_validation_slides_with_the_one_scoring_function(cohort):
    loaded = load_model(cohort.train())
    scores = {"teacher": [], "student": [], "student_max": [], "student_topk": []}
    labels = []
    distances = []
    for index in range(12, 18):
        rng = np.random.default_rng(index)
        features = rng.standard_normal((6 + index, 8))
        if index % 2:
            features[::3, 0] += 4.0
        said = predict_bag(
            loaded.model, features.astype("float16"), student_pooling="topk", top_k=5, device="cpu"
        )
        scores["teacher"].append(said.teacher_probability[1])
        scores["student"].append(said.student_probability)
        scores["student_max"].append(said.student.by_max[1])
        scores["student_topk"].append(said.student.by_topk[1])
        labels.append(index % 2)
        distances.append(said.feature_distance)
    for role, values in scores.items():
        expected = choose_threshold(np.array(labels), np.array(values), rule="youden", min_sensitivity=0.95)
        assert loaded.header["thresholds"][role] == pytest.approx(expected, abs=1e-9)
    assert loaded.header["threshold_split"] == "val"
    limit = calibrate_limit(distances, [str(index) for index in range(12, 18)])
    assert (limit.rule, limit.cases, limit.slides, limit.chosen_on) == ("lognormal", 6, 6, "val")
    assert limit_of(loaded.header) == limit


def test_a_killed_step_goes_on_and_ends_with_the_same_bytes(cohort, tmp_path, monkeypatch):
    whole = cohort.train(out_dir=tmp_path / "whole")
    saved = train_step.save_model

    def full_disk(*_args, **_kwargs):
        raise RunFailed("no space left on the disk")

    monkeypatch.setattr(train_step, "save_model", full_disk)
    with pytest.raises(RunFailed):
        cohort.train(out_dir=tmp_path / "again")
    assert (tmp_path / "again" / "state.safetensors").is_file()
    assert not (tmp_path / "again" / "model.json").exists()
    monkeypatch.setattr(train_step, "save_model", saved)
    again = cohort.train(out_dir=tmp_path / "again")
    assert {path.name for path in again.iterdir()} == FILES
    for name in FILES:
        assert (again / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize(("recipe", "student"), [("abmil", None), ("weno", (2, 2))])
def test_three_classes_train(tmp_path, recipe, student):
    cohort = Cohort(tmp_path, labels=("normal", "grade 1", "grade 2"))
    loaded = load_model(cohort.train(recipe))
    output = loaded.model(torch.zeros(2, 8), torch.tensor([0, 2]))
    assert output.bag_logits.shape == (1, 3)
    assert (None if output.instance_logits is None else output.instance_logits.shape) == student


def test_the_released_schedule_refuses_three_classes(tmp_path):
    cohort = Cohort(tmp_path, labels=("normal", "grade 1", "grade 2"))
    with pytest.raises(BadInput, match=r"knows two classes, found 3; set train.weno.schedule to joint"):
        cohort.train("weno", weno={"schedule": "released", "pseudo_label": "minmax_global"})


def test_the_released_schedule_trains_and_refuses_teachers_that_need_the_whole_bag(cohort):
    weno = {"schedule": "released", "pseudo_label": "minmax_global"}
    assert load_model(cohort.train("weno", weno=weno)).header["recipe"] == "weno"
    with pytest.raises(BadInput, match=r"scores instances out of their bags, teacher transmil cannot; set"):
        cohort.train("weno", teacher="transmil", weno=weno)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            {"recipe": "wemo"},
            r"unknown recipe 'wemo'; known: abmil, auto, distill, ins, .* \(did you mean 'weno'\?\)",
        ),
        ({"fold": 1}, r"splits.csv: no fold 1; it holds folds 0 to 0"),
        ({"teacher": "abmill"}, r"train.teacher: input should be 'abmil', 'gated_abmil', .* found 'abmill'"),
        ({"device": "cuda:99"}, r"device 'cuda:99': this machine has"),
    ],
)
def test_arguments_that_name_nothing_are_told(cohort, arguments, line):
    with pytest.raises(BadInput, match=line):
        cohort.train(**arguments)
    assert not cohort.out_dir.exists()


def test_features_of_other_settings_are_refused(cohort):
    for index in range(18):
        cohort.write(f"s{index:02d}", positive=bool(index % 2), seed=index, tile_px=224)
    with pytest.raises(BadInput, match=r"tile_px 224 instead of 256; train with the settings that made them"):
        cohort.train()


def test_parts_of_different_tiling_are_refused(cohort):
    for index in range(12, 18):
        cohort.write(f"s{index:02d}", positive=bool(index % 2), seed=index, tile_mpp=0.25)
    with pytest.raises(BadInput, match=r"train and val slides differ in tile_mpp"):
        cohort.train()

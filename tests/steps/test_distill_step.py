"""Recipe distill through the steps: the large model is found, checked, learned from and told of."""

import json

import pytest
from trained_runs import TrainedRun

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish_json
from wsi_kd.training.checkpoint import load_model

TRAIN = {
    "epochs": 2,
    "hidden_dim": 16,
    "attention_dim": 8,
    "device": "cpu",
    "top_k": 3,
    "recipes": ["abmil", "weno", "distill"],
    "distill": {"hidden_dim": 3, "attention_dim": 2},
}


@pytest.fixture
def run(tmp_path):
    return TrainedRun(tmp_path, TRAIN)


def test_the_small_model_is_a_checkpoint_like_any_other(run):
    large = load_model(run.train("weno"))
    small = load_model(run.train("distill", large="weno"))
    assert small.header["recipe"] == "distill"
    assert small.header["model"]["hidden_dim"] == 3
    assert small.header["model"]["teacher"] == small.header["teacher"] == "abmil"
    assert small.model.student is not None
    told = small.header["learned_from"]
    assert told["recipe"] == "weno"
    assert told["weights_sha256"] == large.header["weights_sha256"]
    assert told["parameters"] == sum(value.numel() for value in large.model.parameters())
    assert told["parameters"] > 5 * sum(value.numel() for value in small.model.parameters())
    rows = run.predict_with(run.model_dir("distill"))
    assert len(rows) == len(run.folds[0].val) + len(run.folds[0].test)
    assert all(0.0 < row.teacher_probability < 1.0 for row in rows)
    assert all(0.0 < row.student_probability < 1.0 for row in rows)


def test_a_large_model_without_student_makes_a_small_one_without(run):
    run.train("abmil")
    small = load_model(
        run.train("distill", large="abmil", distill={"teacher_recipe": "abmil", "teacher": "transmil"})
    )
    assert small.model.student is None
    assert small.header["teacher"] == "transmil"
    assert all(row.student_probability is None for row in run.predict_with(run.model_dir("distill")))


def test_no_large_model_says_which_command_makes_it(run):
    with pytest.raises(BadInput) as caught:
        run.train("distill", large="weno")
    assert str(caught.value).endswith(
        "models/weno/seed0/fold0: recipe distill learns from the trained model of recipe weno, and there is "
        "none; make it first with: wsi-kd train --recipe weno --seed 0 --fold 0"
    )
    assert not run.model_dir("distill").exists()


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("fold", 1, "fold 1 instead of 0"),
        ("seed", 7, "seed 7 instead of 0"),
        ("recipe", "abmil", "recipe abmil instead of weno"),
        ("classes", ["benign", "tumor"], r"classes \['benign', 'tumor'\] instead of \['normal', 'tumor'\]"),
        ("weights_hash", "other", "weights_hash other instead of w"),
    ],
)
def test_a_large_model_of_another_training_is_refused(key, value, told, run):
    run.train("weno", epochs=1)
    path = run.model_dir("weno") / "model.json"
    header = json.loads(path.read_text())
    header.pop("content_sha256")
    publish_json(path, {**header, key: value})
    with pytest.raises(BadInput, match=f"not the model to learn from: {told}; make it anew with"):
        run.train("distill", large="weno")

"""Recipe distill through the steps: the large model is found, checked, learned from and told of."""

import json

import pytest
from scored_runs import Run, features_of

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish_json
from wsi_kd.features.store import write_features
from wsi_kd.inference.tables import read_predictions
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.predict import run_predict
from wsi_kd.steps.train import run_train
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
TILING = {"tile_px": 256, "tile_mpp": 0.5, "overlap_px": 0}


class Trained(Run):
    """A run whose models are trained by the step."""

    def __init__(self, root):
        super().__init__(root)
        for index, row in enumerate(self.rows[:-1]):
            write_features(root / "features" / f"{row.slide_id}.h5", features_of(row, index, **TILING))

    def settings(self, **train):
        value = {"embed": {"encoder": "made_up"}, "train": {**TRAIN, **train}}
        return parse_settings(value, where="test")

    def model_dir(self, recipe):
        return self.root / "models" / recipe / "seed0" / "fold0"

    def train(self, recipe, *, large=None, **train):
        run_train(
            features_dir=self.root / "features",
            splits_path=self.root / "splits.csv",
            manifest=self.manifest,
            recipe=recipe,
            seed=0,
            fold=0,
            out_dir=self.model_dir(recipe),
            settings=self.settings(**train),
            large_dir=None if large is None else self.model_dir(large),
        )
        return load_model(self.model_dir(recipe))

    def predict(self, recipe):
        out_dir = self.root / "predictions" / recipe
        run_predict(
            self.manifest,
            features_dir=self.root / "features",
            splits_path=self.root / "splits.csv",
            model_dir=self.model_dir(recipe),
            fold=0,
            out_dir=out_dir,
            settings=self.settings(),
        )
        return read_predictions(out_dir / "predictions.csv").rows


@pytest.fixture
def run(tmp_path):
    return Trained(tmp_path)


def test_the_small_model_is_a_checkpoint_like_any_other(run):
    large = run.train("weno")
    small = run.train("distill", large="weno")
    assert small.header["recipe"] == "distill"
    assert small.header["model"]["hidden_dim"] == 3
    assert small.header["model"]["teacher"] == small.header["teacher"] == "abmil"
    assert small.model.student is not None
    told = small.header["learned_from"]
    assert told["recipe"] == "weno"
    assert told["weights_sha256"] == large.header["weights_sha256"]
    assert told["parameters"] == sum(value.numel() for value in large.model.parameters())
    assert told["parameters"] > 5 * sum(value.numel() for value in small.model.parameters())
    rows = run.predict("distill")
    assert len(rows) == len(run.folds[0].val) + len(run.folds[0].test)
    assert all(0.0 < row.teacher_probability < 1.0 for row in rows)
    assert all(0.0 < row.student_probability < 1.0 for row in rows)


def test_a_large_model_without_student_makes_a_small_one_without(run):
    run.train("abmil")
    small = run.train("distill", large="abmil", distill={"teacher_recipe": "abmil", "teacher": "transmil"})
    assert small.model.student is None
    assert small.header["teacher"] == "transmil"
    assert all(row.student_probability is None for row in run.predict("distill"))


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

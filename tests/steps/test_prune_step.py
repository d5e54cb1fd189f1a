"""prune: a narrow checkpoint that predict and infer load as any other, and what stands in it."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from wsi_kd.bags.manifest import Manifest, read_manifest
from wsi_kd.cli.app import run
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash, publish_json, read_json, read_table
from wsi_kd.inference.tables import read_predictions, read_tiles_csv
from wsi_kd.kd.spectral_pruning import find_knee
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.embed import run_embed
from wsi_kd.steps.infer import run_infer
from wsi_kd.steps.mask import run_mask
from wsi_kd.steps.predict import run_predict
from wsi_kd.steps.prune import Wanted, run_prune
from wsi_kd.steps.split import run_split
from wsi_kd.steps.tile import run_tile
from wsi_kd.steps.train import run_train
from wsi_kd.training.checkpoint import load_model
from wsi_kd.training.pruning import neurons_of

TOLERANCE = 1e-6
TOLD = {
    "mask": {"mask_mpp": 2.0},
    "tile": {"tile_px": 64},
    "split": {"folds": 3},
    "train": {
        "epochs": 3,
        "hidden_dim": 24,
        "attention_dim": 8,
        "device": "cpu",
        "spectral": {"layer": "projector", "penalty": 0.02},
    },
}
SETTINGS = parse_settings(TOLD, where="test")


@dataclass
class Cohort:
    """A run's folder after training fold 0 with gates on the projector."""

    root: Path
    manifest: Manifest
    model_dir: Path | None = None

    @property
    def wide(self) -> Path:
        return self.model_dir or self.root / "models" / "weno" / "seed0" / "fold0"

    def prune(self, out: Path, **wanted):
        return run_prune(
            self.manifest,
            model_dir=self.wide,
            out_dir=out,
            features_dir=self.root / "features",
            splits_path=self.root / "splits.csv",
            layer="projector",
            wanted=Wanted(**wanted),
            settings=SETTINGS,
        )

    def config(self, folder: Path) -> Path:
        told = {**TOLD, "run": {"manifest": str(self.root / "slides.csv"), "results_dir": str(self.root)}}
        path = folder / "run.yaml"
        path.write_text(json.dumps(told), encoding="utf-8")
        return path


@pytest.fixture(scope="module")
def cohort(synthetic_cohort, tmp_path_factory) -> Cohort:
    root = tmp_path_factory.mktemp("pruned")
    manifest = read_manifest(synthetic_cohort.manifest, slides_dir=None, classes=["normal", "tumor"])
    features, splits = root / "features", root / "splits.csv"
    status = {name: root / f"{name}.csv" for name in ("mask", "tile", "embed", "all")}
    common = {"settings": SETTINGS}
    run_mask(manifest.rows, masks_dir=root / "masks", status_path=status["mask"], **common)
    run_tile(
        manifest.rows,
        masks_dir=root / "masks",
        tiles_dir=root / "tiles",
        status_path=status["tile"],
        **common,
    )
    run_embed(
        manifest.rows,
        tiles_dir=root / "tiles",
        features_dir=features,
        status_path=status["embed"],
        **common,
    )
    run_split(
        manifest, status_paths=[status["embed"]], splits_path=splits, status_path=status["all"], **common
    )
    made = Cohort(root, manifest)
    run_train(
        features_dir=features,
        splits_path=splits,
        manifest=manifest,
        recipe="weno",
        seed=0,
        fold=0,
        out_dir=made.wide,
        **common,
    )
    return made


def test_infer_with_the_narrow_checkpoint_gives_what_predict_gives(cohort, tmp_path):
    cohort.prune(tmp_path / "narrow", keep=6)
    run_predict(
        cohort.manifest,
        features_dir=cohort.root / "features",
        splits_path=cohort.root / "splits.csv",
        model_dir=tmp_path / "narrow",
        fold=0,
        out_dir=tmp_path / "predictions",
        settings=SETTINGS,
    )
    expected = next(
        row
        for row in read_predictions(tmp_path / "predictions" / "predictions.csv").rows
        if row.part == "test"
    )
    (row,) = (row for row in cohort.manifest.rows if row.slide_id == expected.slide_id)
    run_infer(
        [row._replace(label="", annotation=None)],
        model_dir=tmp_path / "narrow",
        out_dir=tmp_path / "slide",
        device="cpu",
    )
    answer = read_json(tmp_path / "slide" / "prediction.json", remake="wsi-kd infer")
    assert answer["probabilities"]["teacher"]["tumor"] == pytest.approx(
        expected.teacher_probability, abs=TOLERANCE
    )
    assert answer["probabilities"]["student"]["tumor"] == pytest.approx(
        expected.student_probability, abs=TOLERANCE
    )
    assert answer["thresholds"]["teacher"]["value"] == expected.threshold_teacher
    found = read_tiles_csv(tmp_path / "slide" / "tiles.csv")
    tiles = read_tiles_csv(tmp_path / "predictions" / "tiles" / f"{expected.slide_id}.csv")
    for name in ("attention", "evidence", "student_probability"):
        assert np.abs(getattr(found, name) - getattr(tiles, name)).max() < TOLERANCE, name


def test_checkpoint_says_what_it_was_and_equals_the_masked_wide_one(cohort, tmp_path):
    pruned = cohort.prune(tmp_path, keep=5)
    narrow, wide = load_model(tmp_path), load_model(cohort.wide)
    origin = narrow.header["pruned_from"]
    assert narrow.header["model"] == {**wide.header["model"], "hidden_dim": 5}
    assert origin["weights_sha256"] == wide.header["weights_sha256"]
    assert (origin["layer"], origin["neurons"], origin["kept"]) == ("projector", 24, 5)
    assert (origin["chosen_by"], origin["chosen_at"]) == ("keep", 5)
    assert narrow.header["weights_sha256"] == file_hash(tmp_path / "model.safetensors")
    assert {
        key: narrow.header[key] for key in ("recipe", "seed", "fold", "epoch", "sections", "encoder")
    } == {key: wide.header[key] for key in ("recipe", "seed", "fold", "epoch", "sections", "encoder")}
    closed = neurons_of(wide.model, "projector").argsort(descending=True)[5:]
    with torch.no_grad():
        wide.model.projector.weight[closed] = 0.0
        wide.model.projector.bias[closed] = 0.0
        features = torch.randn(20, wide.header["feature_dim"])
        ours, theirs = (one.model(features, torch.tensor([0, 20])) for one in (narrow, wide))
    for found, wanted in zip(ours[:4], theirs[:4], strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    last = load_model(tmp_path, name="last")
    assert last.header["model"]["hidden_dim"] == 5
    assert last.header["pruned_from"]["weights_sha256"] == file_hash(cohort.wide / "last.safetensors")
    assert (pruned.kept, pruned.neurons, pruned.loss) == (5, 24, origin["validation_loss"])


def test_curve_is_kept_as_table_and_chart_and_the_history_goes_along(cohort, tmp_path):
    pruned = cohort.prune(tmp_path, threshold=0.0)
    rows = read_table(tmp_path / "pruning.csv", remake="wsi-kd prune")
    assert [int(row["neurons"]) for row in rows] == [cut.kept for cut in pruned.curve]
    assert float(rows[-1]["validation_loss"]) == pytest.approx(pruned.wide_loss)
    chart = ElementTree.parse(tmp_path / "pruning.svg").getroot()
    assert chart.tag == "{http://www.w3.org/2000/svg}svg"
    history = read_table(tmp_path / "history.csv", remake="wsi-kd train")
    assert len(history) == 3
    assert all(0 < int(row["active_neurons"]) <= 24 for row in history)


def test_knee_is_the_curves(cohort, tmp_path):
    pruned = cohort.prune(tmp_path / "wide", knee=0.0)
    assert pruned.kept == find_knee(pruned.curve, tolerance=0.0)
    loose = cohort.prune(tmp_path / "narrow", knee=1000.0)
    assert loose.kept == 1
    assert loose.loss == pytest.approx(pruned.curve[0].error, abs=1e-5)


def test_command_says_what_it_did_and_refuses_in_one_line(cohort, tmp_path, synthetic_cohort, capsys):
    cohort.root.joinpath("slides.csv").write_bytes(_absolute(synthetic_cohort.manifest))
    config = ["--config", str(cohort.config(tmp_path))]
    told = ["prune", str(cohort.wide), str(tmp_path / "narrow")]
    assert run([*told, "--keep", "4", *config]) == 0
    said = capsys.readouterr().out
    assert "of 24; kept 4: validation loss" in said
    assert load_model(tmp_path / "narrow").header["model"]["hidden_dim"] == 4
    assert run([*told, *config]) == 2
    assert "exactly one of --keep, --threshold and --knee, not none" in capsys.readouterr().err
    assert run([*told, "--keep", "4", "--knee", "0.1", *config]) == 2
    assert "not --keep and --knee" in capsys.readouterr().err


def _absolute(manifest: Path) -> bytes:
    lines = manifest.read_text(encoding="utf-8").splitlines()
    head = lines[0].split(",")
    rows = [dict(zip(head, line.split(","), strict=True)) for line in lines[1:]]
    for row in rows:
        for key in ("path", "annotation"):
            if row.get(key):
                row[key] = str((manifest.parent / row[key]).resolve())
    return "\n".join([lines[0], *(",".join(row.values()) for row in rows)]).encode()


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({}, "exactly one of"),
        ({"keep": 3, "threshold": 0.1}, "not --keep and --threshold"),
        ({"keep": 25}, "--keep 25: expected 1 to 24"),
        ({"keep": 0}, "--keep 0"),
        ({"threshold": 1.5}, r"threshold 1\.5"),
        ({"knee": -1.0}, "--knee -1"),
        ({"knee": float("nan")}, "--knee nan"),
    ],
)
def test_what_cannot_be_is_refused(cohort, tmp_path, wanted, says):
    with pytest.raises(BadInput, match=says):
        cohort.prune(tmp_path / "narrow", **wanted)
    assert not (tmp_path / "narrow").exists()


def test_run_of_other_classes_or_features_is_refused(cohort, tmp_path):
    other = Cohort(cohort.root, cohort.manifest._replace(classes=("normal", "cancer")))
    with pytest.raises(BadInput, match=r"the manifest has .*'cancer'.*; give the run that it was trained in"):
        _at(other, cohort.wide).prune(tmp_path, keep=3)
    shutil.copytree(cohort.wide, tmp_path / "wide")
    header = read_json(tmp_path / "wide" / "model.json", remake="wsi-kd train")
    publish_json(tmp_path / "wide" / "model.json", {**header, "weights_hash": "other"})
    with pytest.raises(BadInput, match=r"not the features that the model was trained on: .*weights_hash"):
        _at(cohort, tmp_path / "wide").prune(tmp_path / "narrow", keep=3)


def test_model_without_its_last_epoch_is_narrowed_alone(cohort, tmp_path):
    shutil.copytree(cohort.wide, tmp_path / "wide", ignore=shutil.ignore_patterns("last.*"))
    _at(cohort, tmp_path / "wide").prune(tmp_path / "narrow", keep=3)
    assert load_model(tmp_path / "narrow").header["model"]["hidden_dim"] == 3
    assert not (tmp_path / "narrow" / "last.json").exists()


def _at(cohort: Cohort, wide: Path) -> Cohort:
    return Cohort(cohort.root, cohort.manifest, wide)


def test_wide_models_own_folder_is_refused(cohort):
    with pytest.raises(BadInput, match="the wide model's own folder"):
        cohort.prune(cohort.wide, keep=3)

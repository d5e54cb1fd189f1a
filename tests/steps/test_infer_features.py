"""infer --features against the predict step, on a model trained on TRIDENT's features."""

import csv
import json
from pathlib import Path

import jsonschema
import pytest
from given_features import draw_features, write_clam, write_clam_pt, write_trident

from wsi_kd.bags.manifest import Manifest, read_manifest
from wsi_kd.cli.app import run
from wsi_kd.inference.prediction_schema import prediction_schema
from wsi_kd.inference.tables import read_predictions, read_tiles_csv
from wsi_kd.settings.all import Settings, parse_settings
from wsi_kd.steps.adopt import run_adopt
from wsi_kd.steps.predict import run_predict
from wsi_kd.steps.split import run_split
from wsi_kd.steps.train import run_train

CASES = 12


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with job_dir/, labels.csv and, of fold 0, model/ and predictions/."""
    root = tmp_path_factory.mktemp("given")
    rows = [(f"p{i}", f"s{i}", "tumor" if i % 2 else "normal") for i in range(CASES)]
    for index in range(CASES):
        write_trident(root / "job_dir", f"s{index}", draw_features(index, positive=bool(index % 2)))
    with (root / "labels.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([("case_id", "slide_id", "label"), *rows])
    settings = parse_settings(
        {
            "adopt": {"folder": str(root / "job_dir")},
            "split": {"folds": 3},
            "train": {"epochs": 2, "hidden_dim": 8, "attention_dim": 4, "device": "cpu"},
            "predict": {"device": "cpu"},
        },
        where="test",
    )
    _run(root, read_manifest(root / "labels.csv", slides_dir=None, classes=(), with_slides=False), settings)
    return root


def _run(root: Path, manifest: Manifest, settings: Settings) -> None:
    features, chunk = root / "features", root / "features/chunk-0.csv"
    run_adopt(
        manifest.rows,
        features_dir=features,
        status_path=chunk,
        settings=settings,
        negative_label=manifest.classes[0],
    )
    splits = {"splits_path": root / "splits.csv"}
    run_split(manifest, status_paths=[chunk], status_path=root / "status.csv", settings=settings, **splits)
    shared = {"features_dir": features, "manifest": manifest, "fold": 0, "settings": settings, **splits}
    run_train(recipe="weno", seed=0, out_dir=root / "model", **shared)
    run_predict(model_dir=root / "model", out_dir=root / "predictions", **shared)


def infer(trained: Path, out: Path, *given: object, more: tuple[str, ...] = ()) -> int:
    files = [argument for path in given for argument in ("--features", str(path))]
    return run(["infer", *files, "--model", str(trained / "model"), "--out", str(out), *more])


def test_the_given_file_scores_as_in_the_run(trained, tmp_path):
    row = next(
        row for row in read_predictions(trained / "predictions/predictions.csv").rows if row.part == "test"
    )
    source = next((trained / "job_dir").rglob(f"{row.slide_id}.h5"))
    for number, path in enumerate((source, trained / f"features/{row.slide_id}.h5")):
        assert infer(trained, tmp_path / str(number), path) == 0
        answer = json.loads((tmp_path / f"{number}/prediction.json").read_text())
        assert answer["probabilities"]["teacher"]["tumor"] == pytest.approx(row.teacher_probability, abs=1e-6)
        assert answer["probabilities"]["student"]["tumor"] == pytest.approx(row.student_probability, abs=1e-6)
        tiles = read_tiles_csv(tmp_path / f"{number}/tiles.csv")
        expected = read_tiles_csv(trained / f"predictions/tiles/{row.slide_id}.csv")
        assert tiles.evidence_score == pytest.approx(expected.evidence_score, abs=1e-6)
        assert "elses" not in json.dumps(answer)


def test_a_folder_gives_each_slide_its_own_and_a_status_table(trained, tmp_path):
    write_trident(tmp_path / "new", "one", draw_features(40))
    write_trident(tmp_path / "new", "two", draw_features(41)[:0])
    assert infer(trained, tmp_path / "out", tmp_path / "new") == 3
    assert infer(trained, tmp_path / "out", tmp_path / "new", more=("--max-failed", "1")) == 0
    with (tmp_path / "out/predictions.csv").open(newline="") as handle:
        assert {row["slide_id"]: row["status"] for row in csv.DictReader(handle)} == {
            "one": "ok",
            "two": "empty",
        }
    assert json.loads((tmp_path / "out/two/prediction.json").read_text())["probabilities"] == {}


def test_a_damaged_file_is_a_failed_slide_and_the_others_go_on(trained, tmp_path, capsys):
    folder = tmp_path / "patient doe"
    for number, name in enumerate("abc"):
        write_trident(folder, name, draw_features(50 + number))
    damaged = next(folder.rglob("b.h5"))
    damaged.write_bytes(damaged.read_bytes()[:-400])
    assert infer(trained, tmp_path / "out", folder) == 3
    assert "1 of 3 slides failed, --max-failed allows 0: b (unreadable: b: " in capsys.readouterr().err
    with (tmp_path / "out/predictions.csv").open(newline="") as handle:
        found = {row["slide_id"]: row["status"] for row in csv.DictReader(handle)}
    assert found == {"a": "ok", "b": "unreadable", "c": "ok"}
    answer = json.loads((tmp_path / "out/b/prediction.json").read_text())
    jsonschema.validate(answer, prediction_schema())
    assert answer["inputs_hash"] == ""
    assert "doe" not in json.dumps(answer)


def test_another_encoder_is_refused_and_can_be_named(trained, tmp_path, capsys):
    path = write_clam(tmp_path, "s", draw_features(1))
    assert infer(trained, tmp_path / "out", path) == 2
    said = capsys.readouterr().err
    assert "encoder 'given:unknown', the model was trained on 'given:uni_v1'" in said
    assert infer(trained, tmp_path / "out", path, more=("--encoder", "uni_v1")) == 0
    assert (tmp_path / "out/tiles.geojson").is_file()


def test_tiles_without_positions_have_scores_but_no_outlines(trained, tmp_path):
    path = write_clam_pt(tmp_path, "s", draw_features(1))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/tiles.geojson").write_text("of a former run")
    assert infer(trained, tmp_path / "out", path, more=("--encoder", "uni_v1")) == 0
    assert not (tmp_path / "out/tiles.geojson").exists()
    assert len(read_tiles_csv(tmp_path / "out/tiles.csv").coords) == 12


def test_slides_are_refused_with_the_way_out(trained, tmp_path, capsys):
    slide = tmp_path / "s.svs"
    slide.write_bytes(b"never opened")
    model = ["--model", str(trained / "model"), "--out", str(tmp_path / "out")]
    assert run(["infer", str(slide), *model]) == 2
    assert "another program made (encoder: uni_v1)" in capsys.readouterr().err
    assert run(["infer", *model]) == 2
    assert "give either slides or --features FILE" in capsys.readouterr().err

"""A run that begins with features TRIDENT made: no slide, no mask, no tile; all later rules as ever."""

import csv
import json
from pathlib import Path

import pytest
from given_features import draw_features, write_trident
from snakemake_runs import edited, run_snakemake

from wsi_kd.cli.app import run as run_command
from wsi_kd.features.store import read_features

pytestmark = pytest.mark.workflow

CASES = 12


def settings(folder: Path) -> dict:
    run = edited("run", manifest="labels.csv", max_failed_slides=1, title="given features")
    return {
        "run": run["run"],
        "adopt": {"folder": str(folder / "job_dir")},
        "split": {"folds": 3},
        "train": {**run["train"], "epochs": 4},
        "evaluate": run["evaluate"],
        "report": run["report"],
    }


@pytest.fixture(scope="module")
def adopted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adopt") / "run"
    folder.mkdir()
    rows = []
    for index in range(CASES):
        positive = bool(index % 2)
        rows.append((f"p{index}", f"s{index}.svs", "tumor" if positive else "normal"))
        if index != CASES - 1:
            write_trident(folder / "job_dir", f"s{index}", draw_features(index, positive=positive))
    with (folder / "labels.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([("case_id", "slide_id", "label"), *rows])
    return folder, run_snakemake(folder, settings=settings(folder))


def test_features_and_labels_alone_end_in_a_report(adopted):
    folder, done = adopted
    assert done.code == 0, done.err
    assert done.jobs() == {
        "adopt": 2,
        "split": 1,
        "train": 3,
        "predict": 3,
        "evaluate": 1,
        "report": 1,
        "check_status": 1,
    }
    page = (folder / "out/report/index.html").read_text()
    assert "No picture: " in page
    assert "no features among those given" in page
    assert str(folder) not in page


def test_the_slide_without_features_has_its_status(adopted):
    with (adopted[0] / "out/status.csv").open(newline="") as handle:
        rows = {row["slide_id"]: row for row in csv.DictReader(handle)}
    assert {slide_id: row["status"] for slide_id, row in rows.items() if row["status"] != "ok"} == {
        f"s{CASES - 1}": "missing_features"
    }
    assert "job_dir" in rows[f"s{CASES - 1}"]["reason"]
    assert rows["s0"]["tiles"] == "12"


def test_what_trident_told_reaches_the_models(adopted):
    folder = adopted[0] / "out"
    header = json.loads((folder / "models/weno/seed0/fold0/model.json").read_text())
    assert header["encoder"] == "given:uni_v1"
    assert set(header["sections"]) == {"slides", "adopt"}
    features = read_features(folder / "features/s0.h5")
    assert (features.header["tile_px"], features.header["tile_mpp"]) == (256, 0.5)
    assert features.tile_labels.tolist() == [0] * 12
    metrics = json.loads((folder / "evaluation/metrics.json").read_text())
    assert metrics["cohort"]["flow"] == {"ok": CASES - 1, "missing_features": 1}
    assert metrics["recipes"]["weno"]["scores"]["teacher"]["pooled"]["roc_auc"]["estimate"] >= 0.75


def test_a_changed_file_is_adopted_anew_with_all_that_follows(adopted):
    folder = adopted[0]
    assert "Nothing to be done" in "".join(run_snakemake(folder, "-n", settings=settings(folder))[1:])
    path = write_trident(folder / "job_dir", "s0", draw_features(99))
    assert path.is_file()
    assert run_snakemake(folder, "-n", settings=settings(folder)).jobs()["adopt"] == 1


def test_the_model_scores_a_feature_file_and_says_why_not_a_slide(adopted, tmp_path, capsys):
    folder = adopted[0]
    model = str(folder / "out/models/weno/seed0/fold0")
    new = write_trident(tmp_path, "new", draw_features(5, positive=True))
    assert run_command(["infer", "--features", str(new), "--model", model, "--out", str(tmp_path / "o")]) == 0
    answer = json.loads((tmp_path / "o/prediction.json").read_text())
    assert answer["status"] == "ok"
    assert sorted(answer["files"]) == ["tiles.csv", "tiles.geojson"]
    assert sum(answer["probabilities"]["teacher"].values()) == pytest.approx(1.0)
    (tmp_path / "slide.svs").write_bytes(b"any")
    assert run_command(["infer", str(tmp_path / "slide.svs"), "--model", model, "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "another program made (encoder: uni_v1)" in said
    assert "wsi-kd infer --features FILE" in said

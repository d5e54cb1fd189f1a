"""Several slides: what --resume keeps and what it makes anew, the table, exit codes."""

import csv
import json
import shutil
from pathlib import Path

import jsonschema
import pytest
from untrained_models import SECTIONS, write_model

from wsi_kd.bags.manifest import bare_row
from wsi_kd.cli.app import run
from wsi_kd.core.files import check_table, read_json
from wsi_kd.inference.prediction_schema import prediction_schema
from wsi_kd.steps import infer_result
from wsi_kd.steps.infer import slide_job
from wsi_kd.steps.infer_batch import kept_record
from wsi_kd.steps.infer_model import load_inference


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def scans(synthetic_slide, tmp_path) -> Path:
    """A folder of two good slides and a bad one."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("normal", "tumor"):
        shutil.copy(synthetic_slide(name).path, folder / f"{name}.tif")
    (folder / "broken.tif").write_bytes(b"II*\0 no slide")
    return folder


def infer(scans, model, out, *more: str) -> int:
    return run(["infer", str(scans), "--model", str(model), "--out", str(out), "--device", "cpu", *more])


def table(out) -> dict[str, dict[str, str]]:
    check_table(out / "predictions.csv", remake="wsi-kd infer")
    with (out / "predictions.csv").open(newline="") as handle:
        return {row["slide_id"]: row for row in csv.DictReader(handle)}


def times(out) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("*/prediction.json")}


def test_a_folder_ends_with_a_table_and_the_code_for_failed_slides(scans, model, tmp_path, capsys):
    out = tmp_path / "out"
    assert infer(scans, model, out) == 3
    assert "1 of 3 slides failed, --max-failed allows 0: broken (unreadable: " in capsys.readouterr().err
    rows = table(out)
    assert {name: row["status"] for name, row in rows.items()} == {
        "broken": "unreadable",
        "normal": "ok",
        "tumor": "ok",
    }
    assert rows["broken"]["teacher_probability"] == rows["broken"]["out_of_distribution"] == ""
    assert rows["broken"]["reason"]
    for name in ("normal", "tumor"):
        answer = read_json(out / name / "prediction.json", remake="wsi-kd infer")
        row = rows[name]
        assert float(row["teacher_probability"]) == answer["probabilities"]["teacher"]["tumor"]
        assert float(row["student_probability"]) == answer["probabilities"]["student"]["tumor"]
        assert float(row["probability_normal"]) == answer["probabilities"]["teacher"]["normal"]
        assert (row["teacher_call"], row["student_call"]) == tuple(answer["calls"].values())
        assert (row["threshold_teacher"], row["models"], row["out_of_distribution"]) == ("0.5", "1", "false")
        assert int(row["tiles"]) == answer["tiles"] > 10
        assert float(row["seconds"]) == pytest.approx(sum(answer["seconds"].values()), abs=1e-3)
        assert row["teacher_probability_sd"] == ""
    for file in out.glob("*/prediction.json"):
        jsonschema.validate(json.loads(file.read_text()), prediction_schema())
    assert str(tmp_path) not in (out / "predictions.csv").read_text()
    assert str(tmp_path) not in (out / "predictions.csv.meta.json").read_text()


def test_resume_keeps_what_is_done_and_makes_the_rest(scans, model, tmp_path, capsys):
    out = tmp_path / "out"
    assert infer(scans, model, out, "--max-failed", "1") == 0
    rows, before = table(out), times(out)
    (out / "predictions.csv").unlink()  # as after a kill
    (out / "tumor/prediction.json").unlink()
    capsys.readouterr()
    assert infer(scans, model, out, "--resume", "--max-failed", "1") == 0
    assert "1 of 3 slides were scored already" in capsys.readouterr().out
    after = times(out)
    assert after["normal"] == before["normal"]
    assert after["broken"] > before["broken"]  # what failed is tried again
    again = table(out)
    assert again["normal"] == rows["normal"]
    assert {**again["tumor"], "seconds": ""} == {**rows["tumor"], "seconds": ""}


@pytest.fixture(scope="module")
def scored(synthetic_slide, model, tmp_path_factory) -> Path:
    """A slide `s.tif` and its answer in `out/`."""
    folder = tmp_path_factory.mktemp("scored")
    shutil.copy(synthetic_slide("normal").path, folder / "s.tif")
    assert run(["infer", str(folder / "s.tif"), "--model", str(model), "--out", str(folder / "out")]) == 0
    return folder


def is_kept(folder, model_dir, *, slide_mpp=None) -> bool:
    inference = load_inference([model_dir], device="cpu")
    job = slide_job(bare_row(folder / "s.tif", slide_mpp), inference)
    return kept_record(folder / "out", job) is not None


@pytest.mark.parametrize(
    "change", ["", "slide", "tiles.csv", "heatmap.png", "prediction.json", "mpp", "gone"]
)
def test_only_what_still_fits_is_kept(scored, synthetic_slide, model, tmp_path, change):
    folder = shutil.copytree(scored, tmp_path / "copy")
    if change == "slide":
        shutil.copy(synthetic_slide("tumor").path, folder / "s.tif")
    elif change == "gone":
        (folder / "s.tif").unlink()
    elif change == "heatmap.png":
        (folder / "out" / change).unlink()
    elif change.endswith((".csv", ".json")):
        path = folder / "out" / change
        path.write_text(path.read_text().replace("0.", "1.", 1))
    assert is_kept(folder, model, slide_mpp=0.52 if change == "mpp" else None) is (change == "")


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"thresholds": {"teacher": 0.6, "student": 0.5}},
        {"sections": {**SECTIONS, "embed": {"max_background_fraction": 0.3}}},
    ],
)
def test_no_answer_of_another_model_threshold_or_setting_is_kept(scored, model, tmp_path, changes):
    assert is_kept(scored, shutil.copytree(model, tmp_path / "same"))
    assert not is_kept(scored, write_model(tmp_path / "other", **changes))


def test_the_table_leaves_out_answers_of_other_models(scans, model, tmp_path):
    out = tmp_path / "out"
    assert infer(scans / "normal.tif", model, out / "normal") == 0
    other = write_model(tmp_path / "other", seed=3)
    assert run(["infer", str(scans / "t*.tif"), "--model", str(other), "--out", str(out)]) == 0
    assert set(table(out)) == {"tumor"}


def test_what_breaks_off_while_files_are_written_leaves_none(scans, model, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(infer_result, "draw_heatmap", stop)
    assert infer(scans, model, tmp_path / "out") == 130
    assert not any((tmp_path / "out/normal").iterdir())
    assert set(table(tmp_path / "out")) == {"broken"}


def test_a_file_that_another_process_removes_ends_the_run_in_one_line(
    scans, model, tmp_path, monkeypatch, capsys
):
    def gone(path):
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(infer_result, "file_hash", gone)
    out = tmp_path / "out"
    assert run(["infer", str(scans / "normal.tif"), "--model", str(model), "--out", str(out)]) == 1
    told = capsys.readouterr().err
    assert told.endswith(f"{out}/tiles.csv: vanished while the slide was written; one process a folder\n")
    assert not any(out.iterdir())

from pathlib import Path

import pytest
from PIL import Image

from wsi_kd.cli.app import run
from wsi_kd.core.files import read_json, read_table
from wsi_kd.distillation.student import load_student
from wsi_kd.settings.distill_encoder import is_of_tiles

CONFIGS = Path(__file__).resolve().parent.parent.parent / "configs" / "kd"
OF_DATA = sorted(path for path in CONFIGS.glob("*.yaml") if not is_of_tiles(path))
QUICK = {
    "search": ["method.proxy_epochs=1"],
    "variance_reduction": ["method.weight=[0.0, 0.5]", "teachers.train.epochs=2"],
    "vanilla_images": ["teachers.train.epochs=2"],
}
"""Beside fewer epochs, what makes a method shorter."""


def test_bad_settings_are_one_line_and_exit_code_2(tmp_path, capsys):
    path = tmp_path / "a.yaml"
    path.write_text("data: {name: digits}\nstudent: {name: mlp, hiden: [3]}\ncriteria: [{type: ce}]\n")
    assert run(["distill", "--config", str(path)]) == 2
    told = capsys.readouterr().err
    assert told == f"wsi-kd: error: {path}: unknown key 'student.hiden' (did you mean 'hidden'?)\n"


def test_the_example_runs_with_changes(tmp_path, capsys):
    changes = ["train.epochs=2", "teachers.train.epochs=2", "student.hidden=[4]"]
    options = [part for change in changes for part in ("--set", change)]
    config = str(CONFIGS / "example.yaml")
    assert run(["distill", "--config", config, "--out", str(tmp_path), *options]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told] == [
        "teacher 1, epoch 1 of 2",
        "teacher 1, epoch 2 of 2",
        "student, epoch 1 of 2",
        "student, epoch 2 of 2",
        "test accuracy",
        "distill",
    ]
    result = read_json(tmp_path / "result.json", remake="x")
    assert f"student {result['student']['best']['test']['accuracy']:.3f}" in told[-2]
    assert load_student(tmp_path).network.head.in_features == 4


def test_layers_are_printed_and_nothing_is_written(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["distill", "--config", str(CONFIGS / "example.yaml"), "--layers"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "student: mlp, of samples 64"
    assert "  head        10               Linear" in told
    assert list(tmp_path.iterdir()) == []


def test_tiles_have_no_layers_to_name(capsys):
    assert run(["distill", "--config", str(CONFIGS / "tile_encoder.yaml"), "--layers"]) == 2
    assert "no layers are named there" in capsys.readouterr().err


def pictures(folder: Path) -> Path:
    for part in ("train", "test"):
        for label, color in (("red", (200, 20, 20)), ("blue", (20, 20, 200))):
            for number in range(12):
                path = folder / part / label / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (40, 40), color).save(path)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("path", OF_DATA, ids=lambda path: path.stem)
def test_every_config_runs_through_the_command(tmp_path, path):
    """With two epochs; `wsi-kd reproduce` asks what they come to with all of them."""
    text = path.read_text()
    changes = ["train.epochs=2", *QUICK.get(path.stem, [])]
    if "name: image_folder" in text:
        changes += [f"data.path={pictures(tmp_path / 'pictures')}", "train.device=cpu", "data.batch_size=8"]
    options = [part for change in changes for part in ("--set", change)]
    out = tmp_path / "out"
    assert run(["distill", "--config", str(path), "--out", str(out), *options]) == 0
    result = read_json(out / "result.json", remake="x")
    assert read_table(out / "history.csv", remake="x")
    assert 0.0 < result["student"]["best"]["test"]["accuracy"] <= 1.0
    assert load_student(out).class_names

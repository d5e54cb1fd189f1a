"""The plan and the doctor of a run that begins with given features."""

import json

import pytest
from given_features import draw_features, write_clam, write_trident

from wsi_kd.cli.app import run
from wsi_kd.cli.plan import STEP_SECTIONS, read_plan
from wsi_kd.core.errors import BadInput
from wsi_kd.settings.all import parse_json_settings

CASES = 10


@pytest.fixture
def config(tmp_path):
    """Ten labels, TRIDENT's features of nine of them."""
    rows = [f"p{index},s{index},{'tumor' if index % 2 else 'normal'}" for index in range(CASES)]
    (tmp_path / "labels.csv").write_text("\n".join(["case_id,slide_id,label", *rows]) + "\n")
    for index in range(CASES - 1):
        write_trident(tmp_path / "job_dir", f"s{index}", draw_features(index, tiles=2))
    return {
        "run": {"manifest": str(tmp_path / "labels.csv"), "slides_per_job": 5, "results_dir": "out"},
        "adopt": {"folder": str(tmp_path / "job_dir")},
    }


def texts(config):
    plan = read_plan(config)
    steps = {step: plan.step_settings(step) for step in STEP_SECTIONS if step != "train"}
    return {**steps, "train": plan.train_settings("weno", 0)}


def test_a_plan_without_slides(config):
    plan = read_plan(config)
    assert plan.slide_rules == "adopt"
    assert [name.rsplit("/", 1)[1] for name in plan.given_features(1)] == ["s5.h5", "s6.h5", "s7.h5", "s8.h5"]
    assert set(json.loads(plan.train_settings("weno", 0))) == {"run", "slides", "adopt", "train"}
    for step, text in texts(config).items():
        assert str(parse_json_settings(text).adopt.folder) == config["adopt"]["folder"], step


def test_an_edit_of_adopt_reruns_adopt_and_what_records_it(config):
    before = texts(config)
    after = texts({**config, "adopt": {**config["adopt"], "encoder": "uni"}})
    assert [step for step in before if before[step] != after[step]] == ["adopt", "train"]
    tiled = texts({**config, "tile": {"min_positive_fraction": 0.5}})
    assert "train" not in [step for step in before if before[step] != tiled[step]]


def test_features_of_other_slides_are_a_typo(config, tmp_path):
    write_clam(tmp_path / "other", "z", draw_features(0))
    with pytest.raises(BadInput, match=r"features \(clam\) of 1 slides such as 'z', but of none that .*'s0'"):
        read_plan({**config, "adopt": {"folder": str(tmp_path / "other")}})
    with pytest.raises(BadInput, match="no such folder"):
        read_plan({**config, "adopt": {"folder": str(tmp_path / "absent")}})


def test_the_doctor_counts_the_given_features(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("wsi_kd.cli.doctor.installation", list)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "my.yaml").write_text(json.dumps(config))
    assert run(["doctor", "--config", str(tmp_path / "my.yaml")]) == 0
    shown = capsys.readouterr().out
    assert "trident: files of 9 of 10 slides; none of s9" in shown
    broken = {**config, "adopt": {"folder": str(tmp_path)}}
    (tmp_path / "my.yaml").write_text(json.dumps(broken))
    assert run(["doctor", "--config", str(tmp_path / "my.yaml")]) == 2


def test_adopt_without_a_folder_says_what_to_set(config, capsys):
    command = ["adopt", "--settings", json.dumps({"run": config["run"]})]
    assert run(command) == 2
    assert "adopt.folder: not set; name the folder" in capsys.readouterr().err

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash, read_json, read_table
from wsi_kd.distillation.student import load_student
from wsi_kd.features.store import FeatureFile, write_features
from wsi_kd.settings.distill import DistillSettings
from wsi_kd.settings.faults import parse
from wsi_kd.steps.distill import describe_layers, run_distill
from wsi_kd.steps.distill_plan import read_data

SMALL = {
    "data": {"name": "digits", "labeled": 100, "standardize": True},
    "student": {"name": "mlp", "hidden": [8], "dropout": 0.1},
    "teachers": {
        "network": {"name": "mlp", "hidden": [32]},
        "train": {"epochs": 2, "all_labels": True, "optimizer": {"name": "adam", "learning_rate": 0.01}},
    },
    "criteria": [
        {"type": "ce", "weight": 0.1},
        {"type": "kd", "weight": 0.9, "temperature": 4},
        {"type": "hint", "layers": ["hidden.0", "hidden.0"], "schedule": {"name": "linear"}},
    ],
    "train": {"epochs": 4, "optimizer": {"name": "adam", "learning_rate": 0.01}},
}


def settings(**sections) -> DistillSettings:
    return parse(DistillSettings, {**SMALL, **sections}, where="x")


def quiet(line: str) -> None:
    del line


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("kd")
    run_distill(settings(), out=out, say=quiet)
    return out


def test_the_result_tells_what_the_files_hold(finished):
    result = read_json(finished / "result.json", remake="x")
    history = read_table(finished / "history.csv", remake="x")
    assert [row["epoch"] for row in history] == ["0", "1", "2", "3"]
    assert {"loss", "ce", "kd", "hint", "val_accuracy"} < set(history[0])
    best = result["student"]["best"]["validation"]["accuracy"]
    column = [float(row["val_accuracy"]) for row in history]
    assert best == max(column)
    assert column[result["student"]["best_epoch"]] == best
    assert result["data"]["samples"] == {"train": 100, "unlabeled": 889, "val": 359, "test": 449}
    assert result["student"]["cost"]["parameters"] == 64 * 8 + 8 + 8 * 10 + 10
    assert result["teachers"][0]["cost"]["parameters"] == 64 * 32 + 32 + 32 * 10 + 10
    assert result["student"]["cost"]["latency_ms"] > 0
    assert result["teachers"][0]["origin"] == "trained"
    assert file_hash(finished / "teachers" / Path(result["teachers"][0]["file"]).name)
    assert result["settings"]["train"]["epochs"] == 4
    assert {"torch", "wsi_kd"} < set(result["versions"])


@pytest.mark.parametrize("which", ["best", "last"])
def test_a_loaded_student_scores_what_the_result_says(finished, which):
    student = load_student(finished, which=which)
    result = read_json(finished / "result.json", remake="x")["student"][which]["test"]
    raw = read_data(settings(data={"name": "digits", "labeled": 100}).data)
    right = total = 0
    for inputs, labels in raw.data.test:
        right += int((student.probabilities(inputs).argmax(dim=1) == labels).sum())
        total += len(labels)
    assert (right / total, total) == (result["accuracy"], result["samples"])
    assert student.class_names == tuple(map(str, range(10)))
    assert student.probabilities(torch.rand(3, 64)).sum(dim=1).tolist() == pytest.approx([1.0] * 3)
    with pytest.raises(BadInput, match=r"inputs are \(3, 8, 8\); expected \(samples, 64\)"):
        student.probabilities(torch.rand(3, 8, 8))


def test_students_of_two_runs_or_damaged_ones_are_refused(finished, tmp_path):
    for name in ("student.json", "student.safetensors", "last.safetensors"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    (tmp_path / "student.safetensors").write_bytes((finished / "last.safetensors").read_bytes() + b" ")
    with pytest.raises(BadInput, match=r"student.safetensors: absent, damaged, or of another run"):
        load_student(tmp_path)
    facts = json.loads((tmp_path / "student.json").read_text())
    (tmp_path / "student.json").write_text(json.dumps({**facts, "input_shape": [63]}))
    with pytest.raises(BadInput, match=r"student.json: changed or damaged"):
        load_student(tmp_path, which="last")
    with pytest.raises(BadInput, match="make it with: wsi-kd distill"):
        load_student(tmp_path / "nowhere")


def test_a_finished_run_is_not_trained_again_and_its_teacher_is_reused(finished, tmp_path):
    told: list[str] = []
    out = Path(shutil.copytree(finished, tmp_path / "again"))
    before = {path.name: file_hash(path) for path in out.glob("*.safetensors")}
    run_distill(settings(), out=out, say=told.append)
    assert [line for line in told if "epoch" in line] == []
    assert told[0].startswith("teacher 1: taken from")
    assert {path.name: file_hash(path) for path in out.glob("*.safetensors")} == before


class Killed(Exception):
    """Stands for a kill between two epochs."""


@pytest.mark.parametrize("at", ["teacher 1, epoch 1", "student, epoch 2"])
def test_a_killed_run_goes_on_to_the_same_result(finished, tmp_path, at):
    def kill(line: str) -> None:
        if line.startswith(at):
            raise Killed

    with pytest.raises(Killed):
        run_distill(settings(), out=tmp_path, say=kill)
    told: list[str] = []
    run_distill(settings(), out=tmp_path, say=told.append)
    assert not any(line.startswith(at) for line in told)
    for name in ("student.safetensors", "last.safetensors"):
        assert load_all(tmp_path / name) == load_all(finished / name)
    assert (tmp_path / "history.csv").read_bytes() == (finished / "history.csv").read_bytes()
    assert not list((tmp_path / "teachers").glob("*.state*"))


def load_all(path: Path) -> dict[str, list[float]]:
    return {name: tensor.flatten().tolist() for name, tensor in load_file(path).items()}


def test_other_settings_are_another_run_and_leave_one_state(finished, tmp_path):
    baseline = settings(teachers=[], criteria=[{"type": "ce"}], train={"epochs": 1})
    run_distill(baseline, out=tmp_path, say=quiet)
    first = [path.name for path in tmp_path.glob("state-*")]
    made = run_distill(
        settings(teachers=[], criteria=[{"type": "ce"}], train={"epochs": 2}), out=tmp_path, say=quiet
    )
    second = [path.name for path in tmp_path.glob("state-*")]
    assert (len(first), len(second)) == (1, 1)
    assert first != second
    assert made.teachers == []
    assert len(read_table(tmp_path / "history.csv", remake="x")) == 2


def test_a_changed_teacher_is_trained_anew_and_a_damaged_one_refused(tmp_path):
    short = settings(train={"epochs": 1})
    run_distill(short, out=tmp_path, say=quiet)
    (first,) = (tmp_path / "teachers").iterdir()
    teacher = {**SMALL["teachers"], "train": {**SMALL["teachers"]["train"], "seed": 5}}
    told: list[str] = []
    run_distill(settings(train={"epochs": 1}, teachers=teacher), out=tmp_path, say=told.append)
    assert told[0].startswith("teacher 1, epoch 1 of 2")
    assert len(list((tmp_path / "teachers").iterdir())) == 2
    content = bytearray(first.read_bytes())
    content[-3] ^= 1
    first.write_bytes(content)
    with pytest.raises(BadInput, match=f"{first.name}: a damaged teacher.*delete it"):
        run_distill(short, out=tmp_path, say=quiet)


def test_given_weights_are_taken_as_they_are(finished, tmp_path):
    (kept,) = (finished / "teachers").glob("*.safetensors")
    teacher = {"network": {"name": "mlp", "hidden": [32], "weights": str(kept)}}
    told: list[str] = []
    given = settings(student=teacher["network"], teachers=teacher, train={"epochs": 1})
    run_distill(given, out=tmp_path, say=told.append)
    assert not any(line.startswith("teacher") for line in told)
    result, former = (read_json(folder / "result.json", remake="x") for folder in (tmp_path, finished))
    (found,), (trained,) = result["teachers"], former["teachers"]
    assert (found["origin"], found["file"]) == ("given", None)
    assert (found["sha256"], found["test"]) == (trained["sha256"], trained["test"])
    assert result["student"]["first_sha256"] == trained["sha256"] != former["student"]["first_sha256"]
    assert result["settings"]["student"]["weights"] == kept.name
    written = [(tmp_path / name).read_text() for name in ("result.json", "student.json")]
    assert not any(str(finished) in text for text in written)


def test_several_teachers_with_a_specialist(tmp_path):
    specialist = {
        "network": {"name": "mlp", "hidden": [16]},
        "train": {"epochs": 3, "classes": [0, 1], "elsewhere": "uniform", "all_labels": True},
    }
    many = settings(
        teachers=[SMALL["teachers"], specialist], criteria=[{"type": "ae_kd"}], train={"epochs": 1}
    )
    made = run_distill(many, out=tmp_path, say=quiet)
    assert len(made.teachers) == 2
    assert made.teachers[1].accuracy < 0.6 < made.teachers[0].accuracy


def test_loaders_of_the_users_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_kd_loaders.py").write_text(
        "import torch\n"
        "from torch.utils.data import DataLoader, TensorDataset\n"
        "from wsi_kd.distillation.task import Data\n"
        "def make(n):\n"
        "    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(0))\n"
        "    one = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=8)\n"
        "    return Data(train=one, val=one, test=one, classes=2, input_shape=(4,))\n"
    )
    data = {"name": "python:own_kd_loaders.make", "arguments": {"n": 40}}
    with pytest.raises(BadInput, match="with loaders of your own train the teacher yourself"):
        run_distill(settings(data=data), out=tmp_path / "out", say=quiet)
    teacher = {
        **SMALL["teachers"],
        "train": {"epochs": 5, "optimizer": {"name": "adam", "learning_rate": 0.01}},
    }
    own = settings(data=data, teachers=teacher, train={**SMALL["train"], "epochs": 20})
    made = run_distill(own, out=tmp_path / "out", say=quiet)
    sys.modules.pop("own_kd_loaders")
    assert made.student.accuracy > 0.8
    samples = read_json(made.result, remake="x")["data"]["samples"]
    assert samples == {"train": 40, "unlabeled": None, "val": 40, "test": 40}
    assert load_student(tmp_path / "out").class_names == ("0", "1")


def test_tiles_of_a_run_by_case(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["slide_id,label,case_id"]
    for number in range(12):
        features = rng.normal(2.0 * (number % 2), 1.0, (9, 5)).astype(np.float16)
        facts = {"status": "ok" if number else "empty", "encoder": "a"}
        slide = FeatureFile(
            f"s{number}", features, np.zeros((9, 2), np.int64), np.full(9, -1, np.int8), facts
        )
        write_features(tmp_path / f"s{number}.h5", slide)
        lines.append(f"s{number},{'tumor' if number % 2 else 'normal'},p{number}")
    (tmp_path / "slides.csv").write_text("\n".join(lines))
    data = {
        "name": "features",
        "features_dir": str(tmp_path),
        "manifest": str(tmp_path / "slides.csv"),
        "labels": "slide",
        "tiles_per_slide": 6,
        "test": 12,
        "val": 12,
    }
    made = run_distill(
        settings(data=data, train={**SMALL["train"], "epochs": 8}), out=tmp_path / "out", say=quiet
    )
    samples = read_json(made.result, remake="x")["data"]["samples"]
    assert samples == {"train": 42, "unlabeled": None, "val": 12, "test": 12}
    assert load_student(tmp_path / "out").class_names == ("normal", "tumor")
    assert made.student.accuracy > 0.8


def test_layers_of_both_sides():
    assert describe_layers(settings()) == [
        "student: mlp, of samples 64",
        "  hidden.0.0  8                Linear",
        "  hidden.0.1  8                ReLU",
        "  hidden.0    8                Sequential",
        "  dropout     8                Dropout",
        "  head        10               Linear",
        "teacher 1: mlp, of samples 64",
        "  hidden.0.0  32               Linear",
        "  hidden.0.1  32               ReLU",
        "  hidden.0    32               Sequential",
        "  dropout     32               Dropout",
        "  head        10               Linear",
    ]


@pytest.mark.parametrize(
    ("criteria", "line"),
    [
        ([{"type": "kd", "temprature": 4}], "did you mean 'temperature'"),
        ([{"type": "kd"}, {"type": "kd"}], "two are called 'kd'"),
        ([{"type": "hint", "layers": ["hidden.1", "hidden.0"]}], "did you mean 'hidden.0"),
        ([{"type": "hint"}], "reads features; pass layers"),
        ([{"type": "ce", "weight": 0}], "all weights are 0"),
    ],
)
def test_criteria_that_cannot_be_used(tmp_path, criteria, line):
    with pytest.raises(BadInput, match=line):
        run_distill(settings(criteria=criteria, train={"epochs": 1}), out=tmp_path, say=quiet)
    assert not (tmp_path / "result.json").exists()

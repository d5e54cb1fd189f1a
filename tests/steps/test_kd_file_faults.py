import sys

import numpy as np
import pytest
import torch

from wsi_kd.cli.app import run
from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.core.files import read_json
from wsi_kd.distillation.student import load_student
from wsi_kd.settings.distill import DistillSettings
from wsi_kd.settings.faults import parse
from wsi_kd.steps.distill import run_distill

SMALL = {
    "data": {"name": "digits", "train_samples": 60, "val": 40, "test": 40},
    "student": {"name": "mlp", "hidden": [4]},
    "teachers": {"network": {"name": "mlp", "hidden": [4]}, "train": {"epochs": 1}},
    "criteria": [{"type": "ce"}, {"type": "kd"}],
    "train": {"epochs": 1},
}
HINT = {"type": "hint", "layers": ["hidden.0", "hiden.0"]}
SGD = {"name": "sgd", "nesterov": True, "momentum": 0.0}


def distill(out, **sections) -> list[str]:
    said: list[str] = []
    run_distill(parse(DistillSettings, {**SMALL, **sections}, where="x"), out=out, say=said.append)
    return said


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        ({"criteria": [{"type": "ce"}, HINT]}, r"unknown layer of teacher 1 \(Mlp\) 'hiden.0'"),
        ({"criteria": [{"type": "ce"}, {"type": "hint"}]}, "HintLoss reads features; pass layers="),
        ({"criteria": [{"type": "kd", "name": "loss"}]}, "criterion 'loss': not a usable name"),
        ({"criteria": [{"type": "kd", "temperature": 0}]}, "criterion 'kd': KdLoss: temperature is 0.0"),
        ({"train": {"epochs": 1, "optimizer": SGD}}, "nesterov needs a momentum"),
        ({"train": {"epochs": 1, "device": "gpu"}}, "unknown device 'gpu'"),
        (
            {"teachers": [SMALL["teachers"], {"network": {"name": "mlp", "weights": "absent.pt"}}]},
            "teacher 2: absent.pt: no such weight file",
        ),
        (
            {"teachers": [SMALL["teachers"], {**SMALL["teachers"], "train": {"classes": [11]}}]},
            "teacher 2: teachers: no class 11",
        ),
    ],
)
def test_what_can_be_seen_to_be_wrong_is_told_before_a_teacher_is_trained(tmp_path, sections, line):
    with pytest.raises(BadInput, match=line):
        distill(tmp_path / "out", **sections)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_told_before_a_teacher_is_trained(tmp_path):
    (tmp_path / "file").write_text("mine")
    for place, kind in (("file", BadInput), ("file/below", BadInput), ("a" * 300, RunFailed)):
        with pytest.raises(kind, match=r"the folder cannot be written .*choose another output folder"):
            distill(tmp_path / place)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_teacher_that_diverges_is_named(tmp_path):
    train = {"epochs": 1, "optimizer": {"name": "sgd", "learning_rate": 1e30}}
    with pytest.raises(RunFailed, match=r"^teacher 1: .*not finite"):
        distill(tmp_path, teachers={**SMALL["teachers"], "train": train})


def test_the_state_of_a_killed_run_outlives_a_run_of_other_settings(tmp_path):
    class KilledError(Exception):
        pass

    def kill(line: str) -> None:
        if line.startswith("student, epoch 2"):
            raise KilledError

    longer = parse(DistillSettings, {**SMALL, "train": {"epochs": 3}}, where="x")
    with pytest.raises(KilledError):
        run_distill(longer, out=tmp_path, say=kill)
    killed = {path.name for path in tmp_path.glob("state-*")}
    assert len(killed) == 1
    distill(tmp_path)
    distill(tmp_path, train={"epochs": 2})
    states = {path.name for path in tmp_path.glob("state-*")}
    kept = read_json(tmp_path / "result.json", remake="x")["state"]
    assert states == {*killed, f"{kept}.safetensors"}
    said = distill(tmp_path, train={"epochs": 3})
    assert [line.split(":")[0] for line in said if line.startswith("student")] == ["student, epoch 3 of 3"]


def test_the_student_takes_what_the_source_has_and_refuses_the_rest(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 5), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=pixels, y=np.arange(60) % 3)
    distill(tmp_path / "out", data={"name": "npz", "path": str(tmp_path / "a.npz"), "standardize": True})
    student = load_student(tmp_path / "out")
    bytes_, shares = torch.from_numpy(pixels), torch.from_numpy(pixels / 255.0)
    assert shares.dtype == torch.float64
    assert torch.equal(student.probabilities(bytes_), student.probabilities(shares.float()))
    assert torch.equal(student.probabilities(shares), student.probabilities(shares.float()))
    with pytest.raises(BadInput, match="inputs hold NaN or infinity"):
        student.probabilities(torch.full((1, 5), torch.nan))


def test_a_loss_of_the_users_that_raises_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_raising_loss.py").write_text(
        "from wsi_kd.kd.outputs import DistillationLoss\n\n\n"
        "class Mine(DistillationLoss):\n"
        "    reads_teacher = False\n"
        "    def forward(self, student, teacher, labels):\n"
        "        raise ValueError('not\\nyet')\n"
    )
    (tmp_path / "a.yaml").write_text(
        "data: {name: digits, train_samples: 60, val: 40, test: 40}\nstudent: {name: mlp}\n"
        "criteria: [{type: 'python:own_raising_loss.Mine', name: mine}]\ntrain: {epochs: 1}\n"
    )
    monkeypatch.chdir(tmp_path)
    try:
        assert run(["distill", "--config", "a.yaml", "--out", "out"]) == 2
    finally:
        sys.modules.pop("own_raising_loss", None)
    place = f"{tmp_path / 'own_raising_loss.py'}, line 7, in forward"
    assert capsys.readouterr().err == f"wsi-kd: error: {place} raised ValueError: not yet; mend it\n"

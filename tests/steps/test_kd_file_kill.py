import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wsi_kd.core.fault_points import VARIABLE
from wsi_kd.core.files import file_hash

SETTINGS = {
    "data": {"name": "digits", "labeled": 100, "standardize": True},
    "student": {"name": "mlp", "hidden": [8], "dropout": 0.1},
    "teachers": {"network": {"name": "mlp", "hidden": [32]}, "train": {"epochs": 2, "all_labels": True}},
    "criteria": [
        {"type": "kd", "temperature": 4},
        {"type": "hint", "layers": ["hidden.0", "hidden.0"], "schedule": {"name": "linear"}},
    ],
    "train": {"epochs": 40, "optimizer": {"name": "adam"}, "schedule": {"name": "cosine"}},
}


@pytest.mark.slow
def test_a_killed_command_goes_on_to_the_same_student(tmp_path):
    """SIGKILL at any time: here when several epochs have left their state, and most are to come."""
    config = tmp_path / "a.yaml"
    config.write_text(json.dumps(SETTINGS))
    command = [str(Path(sys.executable).with_name("wsi-kd")), "distill", "--config", str(config), "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run(
        [*command, str(tmp_path / "killed")],
        capture_output=True,
        env={**environment, VARIABLE: "open:kill:12"},
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert "student, epoch 5 of 40" in killed.stdout
    assert not (tmp_path / "killed" / "result.json").exists()
    again = subprocess.run(
        [*command, str(tmp_path / "killed")], capture_output=True, env=environment, text=True, check=True
    )
    assert "student, epoch 1 of" not in again.stdout
    assert "student, epoch 40 of 40" in again.stdout
    subprocess.run([*command, str(tmp_path / "whole")], capture_output=True, env=environment, check=True)
    for name in ("student.safetensors", "last.safetensors", "history.csv"):
        assert file_hash(tmp_path / "killed" / name) == file_hash(tmp_path / "whole" / name)

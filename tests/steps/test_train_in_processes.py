"""One training in two processes of this machine: the files of one, one line when one dies, refusals."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from training_cohort import FILES, Cohort

from wsi_kd.core.errors import BadInput, PeerLost, RunFailed
from wsi_kd.core.files import read_table
from wsi_kd.core.torchrun import launched_by_torchrun
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps import train_processes
from wsi_kd.steps.train_processes import train_in_processes
from wsi_kd.training.checkpoint import load_model
from wsi_kd.training.state import STATE_NAME

REMAKE = "wsi-kd train"
COMMAND = (sys.executable, "-c", "from wsi_kd.cli.app import main; main()")
EPOCHS = 25


@pytest.fixture
def cohort(tmp_path):
    return Cohort(tmp_path)


def children():
    """Processes that this one started, without the one that multiprocessing tracks resources with."""
    found = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in found if b"_train_at" in told(pid) or b"spawn_main" in told(pid)]


def told(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@contextmanager
def one_killed_when(path):
    """Kill the second process that trains as soon as `path` is there."""
    over = threading.Event()

    def kill():
        while not over.wait(0.002):
            if path.is_file() and len(children()) == 2:
                os.kill(max(children()), signal.SIGKILL)
                return

    thread = threading.Thread(target=kill)
    thread.start()
    yield
    over.set()
    thread.join()


def history(out_dir):
    return read_table(out_dir / "history.csv", remake=REMAKE)


def test_two_processes_leave_the_files_of_one_and_go_on_after_a_death(cohort, tmp_path):
    """Killed in the middle, one line; the same command again ends where one process ends."""
    plan = {"epochs": EPOCHS, "patience": EPOCHS, "learning_rate": 1e-3}
    alone = cohort.train(out_dir=tmp_path / "alone", **plan)
    out_dir = tmp_path / "two"
    shared = cohort.arguments(out_dir=out_dir, processes=2, **plan)
    with one_killed_when(out_dir / STATE_NAME), pytest.raises(RunFailed) as caught:
        train_in_processes(2, shared)
    assert str(caught.value) == (
        "train: process 2 of 2 was killed by signal 9 (SIGKILL; often too little memory); the others were "
        "ended; run the same command again: it goes on after the last finished epoch"
    )
    assert children() == []
    with safe_open(out_dir / STATE_NAME, "pt") as handle:
        finished = json.loads(handle.metadata()["state"])["epoch"]
    assert 1 <= finished < EPOCHS
    train_in_processes(2, shared)
    assert {path.name for path in out_dir.iterdir()} == FILES
    assert len(history(alone)) == len(history(out_dir)) == EPOCHS
    for row, other in zip(history(alone), history(out_dir), strict=True):
        assert float(row["selection_loss"]) == pytest.approx(float(other["selection_loss"]), abs=1e-5)
    one, two = load_model(alone), load_model(out_dir)
    assert one.header["epoch"] == two.header["epoch"]
    for name, value in one.model.state_dict().items():
        if not name.endswith("attention_head.bias"):
            assert torch.allclose(value, two.model.state_dict()[name], atol=1e-5), name


@pytest.mark.reliability
def test_torchrun_trains_what_one_process_trains(cohort, tmp_path):
    """By the command line, as a user starts it; only the first process speaks."""
    rows = [f"{row.slide_id},{row.path},{row.label}" for row in cohort.manifest.rows]
    (tmp_path / "slides.csv").write_text("\n".join(["slide_id,path,label", *rows, ""]))
    settings = cohort.arguments()["settings"].train.model_dump(mode="json")
    manifest, classes = str(tmp_path / "slides.csv"), ["normal", "tumor"]
    run = {"manifest": manifest, "results_dir": str(tmp_path), "classes": classes}
    told = ["--recipe", "weno", "--seed", "3", "--settings", json.dumps({"run": run, "train": settings})]
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    ended = subprocess.run(
        [*start, "--no-python", *COMMAND, "train", *told],
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    out_dir = tmp_path / "models" / "weno" / "seed3" / "fold0"
    assert (ended.returncode, ended.stdout) == (0, f"train: {out_dir}\n"), ended.stderr
    one, two = load_model(cohort.train(out_dir=tmp_path / "alone")), load_model(out_dir)
    for name, value in one.model.state_dict().items():
        if not name.endswith("attention_head.bias"):
            assert torch.allclose(value, two.model.state_dict()[name], atol=1e-5), name


@pytest.mark.reliability
def test_what_one_refuses_is_told_once(cohort):
    with pytest.raises(BadInput, match="no fold 7; it holds folds 0 to 0"):
        train_in_processes(2, cohort.arguments(fold=7, processes=2))
    assert children() == []
    assert not cohort.out_dir.exists()


def test_what_several_cannot_train_is_refused_in_the_settings():
    with pytest.raises(BadInput, match=r"processes 2: recipe ins is trained by one process alone"):
        parse_settings({"train": {"processes": 2, "recipes": ["abmil", "ins"]}}, where="test")
    with pytest.raises(BadInput, match=r"processes 3: projector cnn_small \(pixels\) is trained by one"):
        parse_settings({"train": {"processes": 3, "projector": "cnn_small"}}, where="test")
    small = {"recipes": ["abmil", "distill"], "distill": {"teacher_recipe": "abmil", "projector": "resnet18"}}
    with pytest.raises(BadInput, match="projector resnet18"):
        parse_settings({"train": {"processes": 2, **small}}, where="test")
    assert parse_settings({"train": {"processes": 2}}, where="test").train.processes == 2


def test_torchrun_is_refused_the_same(cohort, monkeypatch):
    """It asks no settings how many processes it starts."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadInput, match="several processes: recipe ins is trained by one process alone"):
        cohort.train("ins")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, None), ({"WORLD_SIZE": "1", "RANK": "0"}, None), ({"WORLD_SIZE": "4", "RANK": "3"}, (3, 4))],
)
def test_torchrun_tells_who_this_is(monkeypatch, environment, expected):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launched_by_torchrun() == expected


@pytest.mark.parametrize("rank", ["", "4", "-1", "x"])
def test_an_environment_that_torchrun_did_not_set_is_refused(monkeypatch, rank):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", rank)
    with pytest.raises(BadInput, match=re.escape(f"RANK '{rank}' and WORLD_SIZE '4'")):
        launched_by_torchrun()


class Silent:
    """A process whose words end with what it was told to say."""

    def __init__(self, *said, exitcode=0):
        self.words, ours = multiprocessing.Pipe(duplex=False)
        for one in said:
            ours.send(one)
        ours.close()
        self.process = self
        self.exitcode = exitcode

    def join(self):
        """It has ended."""


def test_who_only_noticed_an_end_is_not_believed():
    """Two lose the third; the third's own words are told, whichever comes first."""
    lost = ("PeerLost", "another process ended")
    broken = Silent(("RunFailed", "no space left"))
    with pytest.raises(RunFailed, match="no space left"):
        train_processes._watch([Silent(lost), broken, Silent(lost)])
    with pytest.raises(PeerLost, match="another process ended"):
        train_processes._watch([Silent(), Silent(lost)])
    with pytest.raises(RunFailed, match=r"process 2 of 2 stopped with an error of its own \(above\)"):
        train_processes._watch([Silent(), Silent(exitcode=1)])

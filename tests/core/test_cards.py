"""Cards are spread over jobs by locks that the kernel lets go of: cards are made up, processes are real."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from wsi_kd.core import device
from wsi_kd.core.cards import hold_card, lock_folder
from wsi_kd.core.errors import BadInput, RunFailed

CARDS = ["GPU-aa", "GPU-bb"]
HOLDER = (
    "import sys, pathlib; from wsi_kd.core.cards import hold_card\n"
    "print(hold_card(sys.argv[2:], pathlib.Path(sys.argv[1])).place, flush=True); sys.stdin.read()"
)


def release(card):
    os.close(card.lock)


@pytest.fixture
def other_job(tmp_path):
    """Another process that holds the first free card until it is killed."""
    started = []

    def start(names=CARDS):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path), *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process, int(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_killed_job_gives_its_card_back(tmp_path, other_job):
    first, place = other_job()
    assert place == 0
    mine = hold_card(CARDS, tmp_path)
    assert mine.place == 1
    assert mine.lock is not None
    first.send_signal(signal.SIGKILL)
    first.wait()
    again = hold_card(CARDS, tmp_path)
    assert again.place == 0
    assert again.lock is not None
    shared = hold_card(CARDS, tmp_path)
    assert shared.lock is None
    assert shared.place == os.getpid() % 2
    release(mine)
    release(again)


def test_a_card_is_known_by_its_name_wherever_it_stands(tmp_path):
    """CUDA_VISIBLE_DEVICES gives the same card other indices in other jobs."""
    mine = hold_card(["GPU-bb"], tmp_path)
    other = hold_card(CARDS, tmp_path)
    assert (mine.place, other.place) == (0, 0)
    third = hold_card(CARDS[::-1], tmp_path)
    assert third.lock is None
    release(mine)
    release(other)


def test_a_wanted_card_is_taken_and_held_if_free(tmp_path):
    mine = hold_card(CARDS, tmp_path, wanted=1)
    assert (mine.place, hold_card(CARDS, tmp_path, wanted=1).lock) == (1, None)
    other = hold_card(CARDS, tmp_path)
    assert other.place == 0
    release(mine)
    release(other)


def test_the_folder_of_locks_is_the_user_s_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert lock_folder() == tmp_path / "wsi-kd"
    assert (tmp_path / "wsi-kd").stat().st_mode & 0o777 == 0o700
    (tmp_path / "wsi-kd").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "wsi-kd").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunFailed, match="not this user's own folder"):
        lock_folder()


def test_without_a_runtime_folder_locks_lie_with_temporary_files(tmp_path, monkeypatch):
    """Batch systems hand on the name of a folder that the machine of the job does not have."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert lock_folder() == tmp_path / f"wsi-kd-{os.getuid()}"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(RunFailed, match=r"cannot be made .*set TMPDIR"):
        lock_folder()


@pytest.fixture
def two_cards(monkeypatch, tmp_path):
    """A machine of two cards, as torch would tell of it."""
    chosen = []
    cuda = SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: len(CARDS),
        get_device_properties=lambda index: SimpleNamespace(uuid=CARDS[index]),
        set_device=chosen.append,
    )
    monkeypatch.setattr(device, "torch", SimpleNamespace(cuda=cuda, device=torch.device))
    monkeypatch.setattr(device, "lock_folder", lambda: tmp_path)
    device.own_card.cache_clear()
    yield chosen
    if device.own_card.cache_info().currsize:
        card = device.own_card()
        if card.lock is not None:
            release(card)
    device.own_card.cache_clear()


def test_a_job_takes_the_free_card_and_keeps_it(two_cards, other_job):
    other_job()
    assert device.choose_device("auto") == torch.device("cuda", 1)
    assert device.choose_device("cuda") == torch.device("cuda", 1)
    assert two_cards == [1, 1]
    assert device.choose_device("cpu") == torch.device("cpu")


def test_a_job_without_a_free_card_shares_one_and_says_so(two_cards, other_job, caplog):
    other_job()
    other_job()
    assert device.choose_device("auto") == torch.device("cuda", os.getpid() % 2)
    assert [record.getMessage() for record in caplog.records] == [
        f"all 2 GPUs are held by other jobs of wsi-kd; this one shares GPU {os.getpid() % 2} with another"
    ]


def test_a_job_that_cannot_lock_goes_on_and_says_so(two_cards, monkeypatch, caplog):
    def refuse():
        raise RunFailed("/tmp/wsi-kd-0: not this user's own folder; remove it")

    monkeypatch.setattr(device, "lock_folder", refuse)
    assert device.choose_device("auto") == torch.device("cuda", os.getpid() % 2)
    assert [record.getMessage() for record in caplog.records] == [
        f"GPU {os.getpid() % 2} is taken without a lock, so that other jobs may take it too: "
        "/tmp/wsi-kd-0: not this user's own folder; remove it"
    ]


def test_a_card_that_is_not_there_is_refused(two_cards):
    with pytest.raises(BadInput, match="device 'cuda:2': this machine has 2 usable GPUs; use auto or cpu"):
        device.choose_device("cuda:2")
    assert two_cards == []

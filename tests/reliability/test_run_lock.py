"""G8: one run at a time in a results folder; the kernel lets go of the lock, whatever ends the run."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
from killed_line import SETTINGS, draw_line_cohort
from snakemake_runs import Done, run_snakemake

from wsi_kd.core import run_lock
from wsi_kd.core.errors import BadInput, Busy
from wsi_kd.core.run_lock import LOCK_NAME, RunLock

Record: TypeAlias = Callable[[str, object], None]
RACES = 50
BUSY = 75
TARGET = "out/masks/chunk-0.csv"

RACING = """
import os, sys
from pathlib import Path
from wsi_kd.core.errors import Busy
from wsi_kd.core.run_lock import RunLock

def run(folder, start, told, end):
    lock = RunLock(folder)
    os.write(told, b"r")
    os.read(start, 1)
    try:
        lock.hold()
    except Busy as error:
        os.write(told, b"b")
        return error.exit_code
    os.write(told, b"h")
    os.read(end, 1)
    return 0

def race(folder):
    (start, go), (hears, told), (end, stop) = os.pipe(), os.pipe(), os.pipe()
    children = []
    for _ in range(2):
        children.append(os.fork())
        if children[-1] == 0:
            os.close(go), os.close(stop)
            os._exit(run(folder, start, told, end))
    for gate in (go, stop):  # both are ready; both have tried
        heard = b""
        while len(heard) < 2:
            heard += os.read(hears, 2)
        os.close(gate)
    print(*sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
    for descriptor in (start, hears, told, end):
        os.close(descriptor)

for _ in range(int(sys.argv[2])):
    race(Path(sys.argv[1]))
"""
HOLDING = """
import sys
from pathlib import Path
from wsi_kd.core.run_lock import RunLock
RunLock(Path(sys.argv[1])).hold()
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def another_run(results_dir: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds the lock until it is ended."""
    command = [sys.executable, "-c", HOLDING, str(results_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_of_two_that_start_at_once_one_runs(tmp_path: Path, record_property: Record) -> None:
    command = [sys.executable, "-c", RACING, str(tmp_path / "out"), str(RACES)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.splitlines() == [f"0 {BUSY}"] * RACES
    record_property("figure", f"G8: {RACES} races of 2 processes: 1 ran, 1 was told it is busy, each time")


def test_who_holds_it_is_told_and_a_kill_lets_go(tmp_path: Path) -> None:
    mine = RunLock(tmp_path)
    with another_run(tmp_path) as other:
        with pytest.raises(
            Busy, match=rf"^busy: another run \(pid {other.pid}, host .+, since .+\) works on"
        ):
            RunLock(tmp_path).hold()
        other.send_signal(signal.SIGKILL)
        assert other.wait() == -signal.SIGKILL
    with pytest.raises(Busy, match=r"worked on .* while this one was planned; start it again"):
        mine.hold()
    again = RunLock(tmp_path)
    again.hold()
    again.release()
    assert (tmp_path / LOCK_NAME).read_text().startswith(f"pid {os.getpid()}, host ")


def test_a_run_planned_before_another_ended_is_refused(tmp_path: Path) -> None:
    """It saw none of the other's files, and would make them again."""
    first, second = RunLock(tmp_path), RunLock(tmp_path)
    first.hold()
    first.release()
    with pytest.raises(Busy, match="start it again"):
        second.hold()
    third = RunLock(tmp_path)
    third.hold()
    third.release()


def test_a_file_system_without_locks_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(run_lock.fcntl, "flock", unknown)
    lock = RunLock(tmp_path)
    lock.hold()
    lock.release()
    told = [record.message for record in caplog.records]
    assert told == [f"{tmp_path}: no locks on this file system; see that no second run works there"]


def test_a_results_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        RunLock(tmp_path / "file" / "out").hold()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_line_cohort(tmp_path_factory.mktemp("lock"))


def run_mask(folder: Path, *extra: str) -> Done:
    return run_snakemake(folder, *(extra or (TARGET,)), settings=SETTINGS)


@pytest.mark.workflow
def test_snakemake_is_refused_while_another_run_works_there(cohort: Path) -> None:
    """Any target: Snakemake's own lock lets one through, and its end frees the other's files."""
    with another_run(cohort / "out") as other:
        done = run_mask(cohort)
        said = [line for line in done.err.splitlines() if line.startswith("wsi-kd: error: ")]
        assert done.code == BUSY
        assert len(said) == 1
        assert said[0].startswith(f"wsi-kd: error: busy: another run (pid {other.pid}, host ")
        assert "Traceback" not in done.err
        assert run_mask(cohort, TARGET, "--dry-run").jobs() == {"mask": 1}
    assert not (cohort / "out/masks").exists()


@pytest.mark.workflow
@pytest.mark.reliability
def test_the_snakemake_of_a_clusters_job_is_not_refused(cohort: Path) -> None:
    """It runs beside the one that holds the lock, on another node."""
    with another_run(cohort / "out"):
        assert run_mask(cohort, TARGET, "--mode", "remote").code == 0
    assert (cohort / TARGET).is_file()
    (cohort / TARGET).unlink()


@pytest.mark.workflow
@pytest.mark.reliability
def test_two_snakemakes_at_once_make_a_file_once(cohort: Path, record_property: Record) -> None:
    made = 0
    for _ in range(3):
        (cohort / TARGET).unlink(missing_ok=True)
        with ThreadPoolExecutor(2) as both:
            ends = [both.submit(run_mask, cohort) for _ in range(2)]
            done = [end.result() for end in ends]
        ran = [one for one in done if "1 of 1 steps (100%) done" in one.out + one.err]
        others = [one for one in done if one not in ran]
        assert [one.code for one in ran] == [0]
        assert all(one.code == BUSY or "Nothing to be done" in one.out + one.err for one in others)
        assert (cohort / TARGET).is_file()
        made += len(ran)
    record_property("figure", f"G8: 3 races of 2 snakemakes: the job ran {made} times")

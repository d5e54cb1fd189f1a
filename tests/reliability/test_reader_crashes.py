"""G1, G2: a library that crashes, hangs, swells or is killed over one slide costs that slide alone."""

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import crashing_reader
import pytest
from hearing import HEARING
from synthetic import draw_slide

from wsi_kd.core.errors import SlideProblem
from wsi_kd.features.store import read_header
from wsi_kd.slides.ledger import Call, Ledger
from wsi_kd.steps.status import read_status

LONGEST_S = 120
SETTINGS = '{"tile": {"tile_px": 64, "tile_mpp": 1}}'
DEADLY = {
    "crash": r"crashes the library that does it (SIGSEGV)",
    "abort": r"crashes the library that does it (SIGABRT)",
    "hang": "a call has not come back for 20 s",
    "swell": "asks for more than 0.5 GiB of memory",
    "kill": "ends in a SIGKILL",
}


def cohort(folder: Path, names: list[str]) -> Path:
    """Slides of one content and a manifest."""
    drawn = draw_slide(folder, "normal", name="drawn", seed=1).path
    rows = ["slide_id,path,label"]
    for number, name in enumerate(names):
        shutil.copy(drawn, folder / f"{name}.tiff")
        rows.append(f"s_{name},{name}.tiff,{('normal', 'tumor')[number % 2]}")
    (folder / "slides.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "slides.csv"


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, crashing_reader.__file__, *map(str, arguments)]


def step(name: str, manifest: Path, *before: str) -> subprocess.CompletedProcess[str]:
    told = ["--manifest", manifest, "--results-dir", manifest.parent / "run", "--settings", SETTINGS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = command(*before, name, *told)
    return subprocess.run(done, capture_output=True, text=True, check=False, timeout=300, env=environment)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["first", "crash", "last"], id="one"),
        pytest.param(
            ["first", "crash", "between", "abort", "hang", "swell", "kill", "last"],
            id="all",
            marks=pytest.mark.reliability,
        ),
    ],
)
def test_a_slide_that_kills_its_reader_ends_as_reader_crashed(tmp_path, names, record_property):
    manifest = cohort(tmp_path, names)
    deadly = [name for name in names if name in DEADLY]
    done = step("mask", manifest)
    assert done.returncode == 0, done
    assert "Traceback" not in done.stderr
    rows = {row.slide_id: row for row in read_status(tmp_path / "run/masks/chunk-0.csv")}
    for name in names:
        row = rows[f"s_{name}"]
        assert row.status == ("reader_crashed" if name in deadly else "ok"), row
        assert DEADLY.get(name, "") in row.reason
    assert done.stderr.count("the command runs again without that slide") == len(deadly)
    record_property(
        "figure", f"G2: {len(deadly)} readers that died, each slide told, {len(names)} slides ended"
    )


@pytest.mark.reliability
def test_a_crash_that_no_slide_explains_ends_the_command_by_its_signal(tmp_path):
    done = step("mask", cohort(tmp_path, ["first", "last"]), "--innocent")
    assert done.returncode == -signal.SIGSEGV
    assert "crashed (SIGSEGV), and no slide that was being read crashes" in done.stderr
    assert list((tmp_path / "run/masks").glob("s_*")) == []


@pytest.mark.reliability
def test_a_slide_that_crashed_later_is_tried_again_and_the_others_are_kept(tmp_path):
    """In the step embed: its mask was whole, and a run with a sound library gives it features."""
    manifest = cohort(tmp_path, ["first", "later", "last"])
    assert step("mask", manifest).returncode == 0
    assert step("tile", manifest).returncode == 0
    (tmp_path / "later.tiff").rename(tmp_path / "crash.tiff")
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace("later.tiff", "crash.tiff"), encoding="utf-8")
    assert step("embed", manifest).returncode == 0
    features = tmp_path / "run/features"
    headers = {name: read_header(features / f"s_{name}.h5") for name in ("first", "later", "last")}
    told = {name: (header["status"], header["failed_in"]) for name, header in headers.items()}
    assert told == {"first": ("ok", ""), "later": ("reader_crashed", "embed"), "last": ("ok", "")}
    assert headers["later"]["inputs_hash"] == ""
    kept = (features / "s_first.h5").stat().st_mtime_ns
    (tmp_path / "crash.tiff").rename(tmp_path / "later.tiff")
    manifest.write_text(text, encoding="utf-8")
    assert step("embed", manifest).returncode == 0
    assert read_header(features / "s_later.h5")["status"] == "ok"
    assert (features / "s_first.h5").stat().st_mtime_ns == kept


@pytest.mark.reliability
def test_a_static_view_of_a_deadly_slide_is_refused_and_nothing_is_written(tmp_path):
    cohort(tmp_path, ["crash"])
    view = command("view", tmp_path / "crash.tiff", "--static", tmp_path / "page")
    done = subprocess.run(view, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 2, done
    warned, told = done.stderr.splitlines()
    assert "the command runs again without that slide" in warned
    assert DEADLY["crash"] in told
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_guard_ends_the_command_as_if_nobody_stood_before_it(tmp_path, number, code):
    """Works in short pieces: what arrives just before one long sleep begins is heard when that is over.

    It would work for ten minutes; who waits for two sees that it was told to stop.
    """
    program = (
        "import sys, time; from wsi_kd.cli import app\n"
        "def slow(*_, **__):\n    print('working', flush=True)\n"
        "    for _ in range(6000):\n        time.sleep(0.1)\n"
        "app.app = slow\napp.main(['mask'])\n"
    )
    job = subprocess.Popen([*HEARING, sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None
    with job.stdout:
        assert job.stdout.readline() == "working\n"
        job.send_signal(number)
        try:
            assert job.wait(timeout=LONGEST_S) == code
        finally:
            job.kill()


def test_a_command_whose_guard_is_killed_dies_too(tmp_path):
    program = (
        "import os, time; from wsi_kd.cli import app\n"
        "def slow(*_, **__):\n    print(os.getpid(), flush=True)\n    time.sleep(600)\n"
        "app.app = slow\napp.main(['mask'])\n"
    )
    job = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None
    with job.stdout:
        worker = int(job.stdout.readline())
        assert worker != job.pid
        job.kill()
        assert job.wait(timeout=LONGEST_S) == -signal.SIGKILL
        try:
            assert select.select([job.stdout], [], [], LONGEST_S)[0]
            assert job.stdout.read() == ""  # ends when the last that holds the pipe is gone
        finally:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)


def test_the_ledger_tells_calls_under_way_then_the_latest(tmp_path):
    ledger = Ledger()
    with ledger.reading(Path("unnoted")):
        assert ledger.calls() == []
    ledger.share()
    ledger.join()
    for name in ("a", "b"):
        with ledger.reading(Path(name)):
            time.sleep(0.002)
    with ledger.reading(Path("c")), ledger.reading(Path("d" * 300)):
        calls = ledger.calls()
        assert [call.path.name for call in calls if call.is_under_way] == ["c", "d" * 300]
    assert [call.is_under_way for call in ledger.calls()] == [False, False]
    assert Call(Path("x"), 1.0).is_under_way
    child = os.fork()
    if child == 0:  # not one of the processes that are watched
        with ledger.reading(Path("child")):
            os._exit(int("child" in str(ledger.calls())))
    assert os.waitpid(child, 0)[1] == 0


def test_a_refused_slide_is_refused_with_its_reason():
    ledger = Ledger()
    assert not ledger.has_refused
    ledger.refuse(Path("/a/b.svs"), "it hangs")
    assert ledger.has_refused
    ledger.check(Path("/a/c.svs"))
    with pytest.raises(SlideProblem, match="reader_crashed: it hangs"):
        ledger.check(Path("/a/b.svs"))

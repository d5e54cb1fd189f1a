"""A scanner's drop folder: slides are scored once they are whole, once each; a kill leaves nothing half."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hearing import HEARING
from untrained_models import write_model

from wsi_kd.core.errors import BadInput, Busy
from wsi_kd.steps import infer_slide, infer_watch
from wsi_kd.steps.infer_model import load_inference
from wsi_kd.steps.infer_watch import Watch, run_watch

SETTLE = 10.0


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def inference(model):
    return load_inference([model], device="cpu")


class Scanner:
    """A drop folder and a clock; each look at the folder is one second, `deeds` happen before a look."""

    def __init__(self, root: Path, inference) -> None:
        self.folder, self.out = root / "scans", root / "out"
        self.folder.mkdir()
        self.inference = inference
        self.scored: list[tuple[str, str]] = []
        self.kept: list[str] = []

    def run(self, seconds: int, deeds=None, **options) -> None:
        now = 0

        def pause(_: float) -> bool:
            nonlocal now
            now += 1
            if deeds and now in deeds:
                deeds[now]()
            return now <= seconds

        run_watch(
            Watch(self.folder, settle_seconds=SETTLE, poll_seconds=1.0, **options),
            self.inference,
            out_dir=self.out,
            on_slide=lambda row: self.scored.append((row.slide_id, str(row.status))),
            on_kept=lambda row: self.kept.append(row.slide_id),
            pause=pause,
            clock=lambda: float(now),
        )

    def table(self) -> dict[str, str]:
        with (self.out / "predictions.csv").open(newline="") as handle:
            return {row["slide_id"]: row["status"] for row in csv.DictReader(handle)}


@pytest.fixture
def scanner(tmp_path, inference) -> Scanner:
    return Scanner(tmp_path, inference)


def test_a_slide_is_scored_once_it_has_come_in_whole(scanner, synthetic_slide):
    """It grows for 15 seconds: half of it, the rest, then stillness; a second comes later."""
    content = synthetic_slide("tumor").path.read_bytes()
    slide = scanner.folder / "s.tif"
    times = []
    deeds = {
        1: lambda: slide.write_bytes(content[: len(content) // 2]),
        8: lambda: slide.write_bytes(content),
        17: lambda: times.append(list(scanner.scored)),
        20: lambda: times.append(list(scanner.scored)),
        25: lambda: (scanner.folder / "empty.tif").write_bytes(synthetic_slide("empty").path.read_bytes()),
    }
    scanner.run(40, deeds)
    assert times == [[], [("s", "ok")]]
    assert scanner.scored == [("s", "ok"), ("empty", "empty")]
    assert scanner.table() == {"s": "ok", "empty": "empty"}
    scanner.run(12)  # started anew: neither is scored again, not even the one that failed
    assert scanner.scored == [("s", "ok"), ("empty", "empty")]
    assert sorted(scanner.kept) == ["empty", "s"]


def test_a_failed_slide_is_tried_again_when_its_file_changes(scanner, synthetic_slide):
    slide = scanner.folder / "s.tif"
    slide.write_bytes(synthetic_slide("empty").path.read_bytes())
    scanner.run(30, {15: lambda: slide.write_bytes(synthetic_slide("normal").path.read_bytes())})
    assert scanner.scored == [("s", "empty"), ("s", "ok")]
    assert scanner.table() == {"s": "ok"}


def test_a_file_that_never_opens_is_waited_for_and_then_fails(scanner):
    (scanner.folder / "s.tif").write_bytes(b"II*\0 no slide")
    early = []
    scanner.run(170, {100: lambda: early.extend(scanner.scored)})
    assert early == []
    assert scanner.scored == [("s", "unreadable")]
    scanner.run(170)
    assert len(scanner.scored) == 1


def test_the_table_keeps_slides_that_left_the_folder(scanner, synthetic_slide):
    slide = scanner.folder / "s.tif"
    shutil.copy(synthetic_slide("empty").path, slide)
    scanner.run(12, {11: slide.unlink})
    scanner.run(1)
    assert scanner.table() == {"s": "empty"}


def test_two_files_of_one_id_are_not_mixed_up(scanner, synthetic_slide, caplog):
    for name in ("case1/s.tif", "case2/S.tif"):
        (scanner.folder / name).parent.mkdir()
        shutil.copy(synthetic_slide("empty").path, scanner.folder / name)
    scanner.run(12, recursive=True)
    assert scanner.scored == [("s", "empty")]
    assert "has the same slide id 'S'; rename one of them" in caplog.text


def test_a_restart_does_not_give_an_answer_to_another_file(scanner, synthetic_slide, caplog):
    """`s.btf` comes second, but is first in the list; it is scored once the other is gone."""
    slide = scanner.folder / "s.tif"
    shutil.copy(synthetic_slide("empty").path, slide)
    scanner.run(12)
    shutil.copy(slide, scanner.folder / "s.btf")
    scanner.run(12)
    assert (scanner.scored, scanner.kept) == ([("s", "empty")], ["s"])
    assert f"{slide} has the same slide id 's'" in caplog.text
    slide.unlink()
    scanner.run(12)
    assert json.loads((scanner.out / "s/prediction.json").read_text())["slide"]["slide_file"] == "s.btf"


def test_a_slide_that_cannot_be_scored_does_not_end_the_watch(scanner, synthetic_slide, caplog, monkeypatch):
    for name in ("a.tif", "b.tif", "-c.tif"):
        shutil.copy(synthetic_slide("empty").path, scanner.folder / name)
    infer = infer_watch.slide_job

    def refuse(row, inference):
        if row.slide_id == "a":
            raise BadInput("features that are not finite")
        return infer(row, inference)

    monkeypatch.setattr(infer_watch, "slide_job", refuse)
    scanner.run(20)
    assert scanner.scored == [("b", "empty")]
    assert caplog.text.count("a.tif: passed over until it changes: features that are not finite") == 1
    assert "the slide id '-c' starts with '-'; rename the file" in caplog.text


def test_what_stops_it_leaves_no_file_of_the_slide_in_work(scanner, synthetic_slide, monkeypatch):
    shutil.copy(synthetic_slide("normal").path, scanner.folder / "s.tif")

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(infer_slide, "score_features", stop)
    with pytest.raises(KeyboardInterrupt):
        scanner.run(12)
    assert not list(scanner.out.rglob("*.*"))
    monkeypatch.undo()
    scanner.run(12)
    assert scanner.scored == [("s", "ok")]


def test_two_watches_do_not_write_to_one_folder(scanner, tmp_path):
    told = []

    def again() -> None:
        with pytest.raises(Busy, match="another wsi-kd writes to") as caught:
            scanner.run(1)
        told.append(str(caught.value))

    scanner.run(2, {1: again})
    assert told == [f"busy: another wsi-kd writes to {scanner.out}; stop it, or choose another output folder"]
    scanner.run(1)  # the first has ended: the folder is free


def test_a_mistyped_folder_leaves_nothing_behind(scanner):
    scanner.folder.rmdir()
    with pytest.raises(BadInput, match="scans: no such folder; expected the one that the scanner writes to"):
        scanner.run(1)
    assert not scanner.out.exists()


@pytest.mark.parametrize("ending", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_ends_the_command_cleanly(model, synthetic_slide, tmp_path, ending):
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    shutil.copy(synthetic_slide("empty").path, scans / "s.tif")
    command = [
        *HEARING,
        Path(sys.executable).parent / "wsi-kd",
        "infer",
        "--watch",
        scans,
        "--model",
        model,
        "--out",
        out,
    ]
    command += ["--settle-seconds", "0.2", "--poll-seconds", "0.1", "--device", "cpu", "--max-failed", "1"]
    table = out / "predictions.csv.meta.json"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            deadline = time.monotonic() + 300
            while not table.is_file() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(ending)
            told, _ = process.communicate(timeout=120)
        finally:
            process.kill()  # one that does not hear must not outlive its test
    assert process.returncode == 0, told
    assert "stopped; 1 slides have an answer" in told
    assert json.loads((out / "s/prediction.json").read_text())["status"] == "empty"

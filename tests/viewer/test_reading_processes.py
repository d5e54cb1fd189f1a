"""A slide that kills, hangs or fills the process that reads it costs the viewer that slide, nothing else."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from open_files import open_files
from viewed_runs import open_viewer

from wsi_kd.bags.manifest import rows_of_slides
from wsi_kd.core.errors import RunFailed, SlideProblem
from wsi_kd.steps.view import view_slides
from wsi_kd.viewer.desk import Desk
from wsi_kd.viewer.nursery import PROGRAM, Nursery, RemoteSlide
from wsi_kd.viewer.opened import OpenSlide
from wsi_kd.viewer.record import Viewed

HOW = {"background": "metadata", "color": "as_stored"}
DEADLY = {
    "crash": "ends the process that does it (SIGSEGV)",
    "abort": "ends the process that does it (SIGABRT)",
    "kill": "ends the process that does it (SIGKILL)",
    "hang": "hangs: no answer for 1.5 s",
}
AT_ONCE = tuple(name for name in DEADLY if name != "hang")
SERVE = "from wsi_kd.viewer.reading_process"
FATAL = PROGRAM.replace(SERVE, f"import crashing_reader; crashing_reader.make_fatal(); {SERVE}")
"""A nursery whose OpenSlide dies of slides by their names."""
DRAWN = {"level": 10, "column": 1, "row": 1}


class Counted(Nursery):
    """Knows the processes that it has started."""

    started: tuple[int, ...] = ()

    def fork(self, pipes):
        process = super().fork(pipes)
        self.started = (*self.started, process)
        return process


@pytest.fixture(scope="module")
def nursery() -> Iterator[Counted]:
    with Counted(FATAL) as made:
        yield made


@pytest.fixture(scope="module")
def viewed(tmp_path_factory, synthetic_slide) -> Viewed:
    """One slide under deadly names and under another."""
    folder = tmp_path_factory.mktemp("Doe")
    for name in ("good", *DEADLY):
        shutil.copy(synthetic_slide("tumor").path, folder / f"{name}.tiff")
    rows = rows_of_slides([folder / f"{name}.tiff" for name in ("good", *DEADLY)], None)
    return view_slides(rows, title="")


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}


@pytest.mark.parametrize("kind", ["tumor", "bounds", "damaged_tiles", "missing_mpp"])
def test_a_process_of_its_own_gives_the_same_answers(nursery, synthetic_slide, kind: str) -> None:
    path = synthetic_slide(kind).path
    own, remote = OpenSlide(path, **HOW), RemoteSlide(path, nursery, **HOW)
    assert remote.facts == own.facts
    assert remote.identity == own.identity
    zoom = own.facts.zoom
    columns, rows = zoom.tiles(zoom.full_level)
    places = [(zoom.min_level, 0, 0), (zoom.full_level, columns - 1, rows - 1), (zoom.full_level - 1, 1, 0)]
    for level, column, row in places:
        where = {"level": level, "column": column, "row": row}
        assert remote.tile(**where) == own.tile(**where)
    assert remote.associated_names() == own.associated_names()
    own.close()
    remote.close()


def test_images_of_the_glass_and_what_is_none_come_back(nursery, tmp_path: Path) -> None:
    from planted_slides import write_svs

    path = write_svs(tmp_path / "a.svs", seed=1, tumor=False)
    own, remote = OpenSlide(path, **HOW), RemoteSlide(path, nursery, **HOW)
    assert {"label", "macro"} <= set(remote.associated_names())
    assert remote.associated("label") == own.associated("label")
    with pytest.raises(SlideProblem):
        remote.associated("none such")
    assert remote.associated("label").startswith(b"\xff\xd8")  # it goes on after a refusal
    own.close()
    remote.close()


def test_what_is_no_slide_is_refused_as_ever(nursery, tmp_path: Path) -> None:
    (tmp_path / "a.svs").write_bytes(b"no slide")
    said = []
    for make in (OpenSlide, lambda path, **how: RemoteSlide(path, nursery, **how)):
        with pytest.raises(SlideProblem) as raised:
            make(tmp_path / "a.svs", **HOW)
        said.append((raised.value.status, raised.value.reason))
    assert said[0] == said[1]
    assert not is_running(nursery.started[-1])


def assert_refused(client, nursery: Counted, name: str) -> None:
    """Ask for a deadly slide in three ways; it is read once."""
    index, why = 1 + list(DEADLY).index(name), DEADLY[name]
    answer = client.get(f"/dzi/{index}/10/1_1.jpg")
    assert (answer.status_code, answer.text.count("\n")) == (409, 1)
    assert why in answer.text
    assert "Doe" not in answer.text
    before = nursery.started
    slide = client.get(f"/api/slides/{index}").json()
    assert (slide["readable"], why in slide["why_not"]) == (False, True)
    assert slide["why_not"].startswith(f"{name}.tiff: ")
    assert client.get(f"/dzi/{index}/10/1_1.jpg").text == answer.text
    assert nursery.started == before


def test_deadly_slides_are_refused_and_the_others_are_shown(nursery, viewed, record_property) -> None:
    client = open_viewer(viewed, nursery=nursery)
    good = client.get("/dzi/0/10/1_1.jpg")
    assert good.status_code == 200
    for name in AT_ONCE:
        assert_refused(client, nursery, name)
    assert client.get("/dzi/0/10/1_1.jpg").content == good.content
    assert client.get("/dzi/0/10/0_1.jpg").status_code == 200
    record_property("figure", f"G10: {len(DEADLY)} slides that kill what reads them: each told, viewer up")


def test_a_slide_that_hangs_is_refused(viewed) -> None:
    """By a nursery so impatient that on a slow machine it would refuse any slide."""
    with Counted(FATAL, hang_s=1.5) as impatient:
        client = open_viewer(viewed, nursery=impatient)
        assert_refused(client, impatient, "hang")
        assert client.get("/api/slides").status_code == 200


def test_a_slide_that_was_replaced_is_tried_again(nursery, viewed, tmp_path: Path) -> None:
    path = tmp_path / "crash.tiff"
    shutil.copy(viewed.slides[0].path, path)
    desk = Desk(view_slides(rows_of_slides([path], None), title=""), show_labels=False, nursery=nursery)
    for _ in range(2):
        with pytest.raises(SlideProblem, match="SIGSEGV"):
            desk.tile(0, **DRAWN)
        count = len(nursery.started)
        with pytest.raises(SlideProblem, match="SIGSEGV"):
            desk.tile(0, **DRAWN)
        assert len(nursery.started) == count
        path.touch()
    desk.close()


def test_closing_leaves_no_process_and_no_descriptor(nursery, viewed) -> None:
    before = open_files()
    for _ in range(3):
        desk = Desk(viewed, show_labels=False, nursery=nursery)
        assert desk.tile(0, **DRAWN).damage == ""
        assert is_running(nursery.started[-1])
        desk.close()
        assert not is_running(nursery.started[-1])
    assert open_files() - before == set()


def test_a_nursery_that_is_gone_is_told_in_one_line(viewed) -> None:
    before = open_files()
    with Counted("import sys; sys.exit()") as gone:
        desk = Desk(viewed, show_labels=False, nursery=gone)
        with pytest.raises(RunFailed, match="start the viewer again"):
            desk.tile(0, **DRAWN)
        desk.close()
    assert gone.started == ()
    assert open_files() - before == set()


def test_the_processes_of_a_killed_viewer_end(viewed, nursery) -> None:
    program = (
        "import time; from pathlib import Path; from wsi_kd.viewer.nursery import Nursery, RemoteSlide\n"
        f"n = Nursery(); s = RemoteSlide(Path({str(viewed.slides[0].path)!r}), n, **{HOW})\n"
        "print(n._process.pid, s._process, flush=True); time.sleep(600)\n"
    )
    viewer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert viewer.stdout is not None
    with viewer.stdout:
        processes = [int(word) for word in viewer.stdout.readline().split()]
    assert all(map(is_running, processes))
    viewer.send_signal(signal.SIGKILL)
    viewer.wait(timeout=120)
    deadline = time.monotonic() + 120
    while any(map(is_running, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, processes))

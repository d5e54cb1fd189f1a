"""What can be viewed, and the server as a process: one line, one address, a clean end."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from viewed_runs import CLASSES, open_viewer, said, tiles_at, write_manifest, write_model, write_statuses

from wsi_kd.cli.app import run as run_command
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish_json, publish_table
from wsi_kd.core.provenance import stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.steps import view
from wsi_kd.steps.known_slides import Sources
from wsi_kd.steps.status import write_status
from wsi_kd.steps.view import Shown, collect_viewed, serve
from wsi_kd.viewer.record import Viewed

MODEL = "weno/seed0/fold0"


def test_a_bare_slide_a_folder_and_a_table_of_slides(synthetic_slide, tmp_path: Path) -> None:
    slide = synthetic_slide("tumor").path
    one = collect_viewed(slide, Sources(slide_mpp=0.25))
    assert [(viewed.slide_id, viewed.path, viewed.slide_mpp) for viewed in one.slides] == [
        ("tumor", slide, 0.25)
    ]
    (tmp_path / "scans").mkdir()
    for name in ("a.tiff", "b.tiff"):
        (tmp_path / "scans" / name).symlink_to(slide)
    assert [viewed.slide_id for viewed in collect_viewed(tmp_path / "scans", Sources()).slides] == ["a", "b"]
    table = write_manifest(tmp_path / "slides.csv", [("x", str(slide), "", "")])
    assert [viewed.slide_id for viewed in collect_viewed(table, Sources()).slides] == ["x"]
    client = open_viewer(one)
    answer = client.get("/api/run").json()
    assert (answer["models"], answer["classes"], answer["title"]) == ([], [], "tumor.tiff")
    assert client.get("/api/slides/0").json()["mpp"] == 0.25
    assert client.get("/api/slides/0/scores?model=x").status_code == 404


def test_a_run_that_has_come_as_far_as_its_masks(tmp_path: Path) -> None:
    """No predictions, no splits, no labels, no status.csv: slides, and the furthest step of each."""
    rows = [
        StatusRow(name, SlideStatus.OK, "", "mask", 0, 1.0, 0.5, "tiff", 0.1) for name in ("first", "second")
    ]
    write_status(tmp_path / "masks" / "chunk-0.csv", rows, stamp("status", {}))
    failed = rows[0]._replace(status=SlideStatus.TOO_FEW_TILES, reason="3 tiles", step="tile")
    write_status(tmp_path / "tiles" / "chunk-0.csv", [failed], stamp("status", {}))
    viewed = collect_viewed(tmp_path, Sources())
    assert [(slide.slide_id, slide.status, slide.step) for slide in viewed.slides] == [
        ("first", "too_few_tiles", "tile"),
        ("second", "ok", "mask"),
    ]
    assert (viewed.classes, viewed.models, viewed.title) == ((), (), tmp_path.name)
    listed = open_viewer(viewed).get("/api/slides").json()
    assert [slide["label"] for slide in listed] == ["", ""]


def test_labels_come_from_the_manifest_else_from_the_splits(tmp_path: Path) -> None:
    columns = ("slide_id", "case_id", "label", "fold_0")
    rows = [("a", "a", "tumor", "test"), ("b", "b", "normal", "test")]
    publish_table(tmp_path / "splits.csv", columns, rows, stamp={"classes": ["normal", "tumor"]})
    write_model(tmp_path, MODEL, [said("a", teacher=0.9), said("b"), said("c")], {})
    manifest = write_manifest(tmp_path / "slides.csv", [("b", "b.svs", "tumor", ""), ("c", "c.svs", "", "")])
    viewed = collect_viewed(tmp_path, Sources(manifest=manifest), shown=Shown("Title", CLASSES))
    told = {slide.slide_id: (slide.label, slide.answers[0].right) for slide in viewed.slides}
    assert told == {"a": ("tumor", True), "b": ("tumor", False), "c": ("", None)}
    assert viewed.title == "Title"


def test_slides_are_found_by_id_in_a_folder(synthetic_slide, tmp_path: Path) -> None:
    write_statuses(tmp_path / "run", {"P1": ("ok", ""), "P2": ("ok", "")})
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "P1.tiff").symlink_to(synthetic_slide("normal").path)
    viewed = collect_viewed(tmp_path / "run", Sources(slides_dir=tmp_path / "scans"))
    assert {slide.slide_id: slide.path and slide.path.name for slide in viewed.slides} == {
        "P1": "P1.tiff",
        "P2": None,
    }
    sheet = tmp_path / "labels.csv"
    sheet.write_text("slide_id,label\nP1.tiff,tumor\nP2,normal\n")
    viewed = collect_viewed(tmp_path / "run", Sources(sheet, tmp_path / "scans"))
    assert [(slide.slide_id, slide.label, slide.path.name) for slide in viewed.slides] == [
        ("P1", "tumor", "P1.tiff"),
        ("P2", "normal", "P2"),
    ]


def test_models_are_in_order_and_tested_ones_first(tmp_path: Path) -> None:
    tiles = {"a": tiles_at([(0, 0)])}
    for key, part in (
        ("weno/seed0/fold10", "val"),
        ("weno/seed0/fold2", "test"),
        ("abmil/seed1/fold0", "val"),
    ):
        write_model(tmp_path, key, [said("a", part=part)], tiles)
    (tmp_path / "predictions" / "weno" / "seed0" / "foldX").mkdir()
    viewed = collect_viewed(tmp_path, Sources())
    keys = [model.key for model in viewed.models]
    assert keys == ["abmil/seed1/fold0", "weno/seed0/fold2", "weno/seed0/fold10"]
    answer = open_viewer(viewed).get("/api/slides/0").json()
    assert answer["models"] == ["weno/seed0/fold2", "abmil/seed1/fold0", "weno/seed0/fold10"]


def test_a_slide_is_known_by_its_content_whatever_its_name(synthetic_slide, tmp_path: Path) -> None:
    shutil.copy(synthetic_slide("tumor").path, tmp_path / "IM0001.txt")
    (slide,) = collect_viewed(tmp_path / "IM0001.txt", Sources()).slides
    assert slide.path == tmp_path / "IM0001.txt"
    (tmp_path / "damaged.svs").write_bytes(b"no slide")  # named as one: the viewer says what is wrong with it
    assert [one.slide_id for one in collect_viewed(tmp_path / "damaged.svs", Sources()).slides] == ["damaged"]


def test_title_and_colors_are_the_runs_unless_told_otherwise(tmp_path: Path) -> None:
    write_statuses(tmp_path, {"a": ("ok", "")})
    write_model(tmp_path, MODEL, [said("a")], {})
    header = {"sections": {"slides": {"background": "white", "color": "srgb"}}}
    publish_json(tmp_path / "models" / MODEL / "model.json", header)
    viewed = collect_viewed(tmp_path, Sources())
    assert (viewed.title, viewed.background, viewed.color) == (tmp_path.name, "white", "srgb")
    publish_table(
        tmp_path / "report/slides.csv", ["slide_id"], [], stamp=stamp("report", {"title": "Trial 7"})
    )
    viewed = collect_viewed(tmp_path, Sources(slide_mpp=0.3), shown=Shown(color="as_stored"))
    assert (viewed.title, viewed.color, viewed.slides[0].slide_mpp) == ("Trial 7", "as_stored", 0.5)


def test_what_cannot_be_viewed_is_told_in_one_line(tmp_path: Path, capsys) -> None:
    with pytest.raises(BadInput, match="nothing to view; expected a run's results folder"):
        collect_viewed(tmp_path, Sources())
    with pytest.raises(BadInput, match="no such slide file"):
        collect_viewed(tmp_path / "gone.svs", Sources())
    (tmp_path / "notes.txt").write_text("no slide")
    with pytest.raises(
        BadInput, match=r"notes\.txt: no slide: no format that is read here \(OpenSlide's, TIFF"
    ):
        collect_viewed(tmp_path / "notes.txt", Sources())
    for arguments in ([], ["x.svs", "--config", "y.yaml"]):
        assert run_command(["view", *arguments]) == 2
        assert "give either RUN_OR_SLIDE or --config FILE" in capsys.readouterr().err


def test_a_port_that_is_taken(synthetic_slide, capsys) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code = run_command(["view", str(synthetic_slide("tumor").path), "--port", str(port)])
    told = capsys.readouterr().err
    assert (code, "cannot be bound" in told, told.count("\n")) == (2, True, 1)


@pytest.mark.parametrize("host", ["", "\u00e4..b", "a" * 70, "203.0.113.7"])
def test_a_host_that_is_none_of_this_machine(host: str) -> None:
    viewed = Viewed("t", (), (), (), root=None, background="metadata", color="as_stored")
    with pytest.raises(BadInput, match="give an address of this machine, or leave it out") as raised:
        serve(viewed, host=host, port=0, show_labels=False)
    assert "while attempting" not in str(raised.value)


@pytest.mark.parametrize("host", ["0", "0.0.0.0"])
def test_every_address_by_any_of_its_names(monkeypatch, host: str) -> None:
    """Guard and printed address follow from what was bound."""
    given, urls = [], []
    monkeypatch.setattr(view, "create_app", lambda _, access: given.append(access))
    monkeypatch.setattr(view.uvicorn, "Config", lambda *_, **__: None)
    monkeypatch.setattr(view.uvicorn, "Server", lambda _: SimpleNamespace(run=lambda **__: None))
    viewed = Viewed("t", (), (), (), root=None, background="metadata", color="as_stored")
    serve(viewed, host=host, port=0, show_labels=False, on_ready=urls.append)
    assert (given[0].any_address, socket.gethostname().lower() in given[0].hosts) == (True, True)
    assert urlsplit(urls[0]).hostname == socket.gethostname().lower()


@pytest.mark.slow
def test_the_process_prints_one_address_serves_and_ends_cleanly(synthetic_slide) -> None:
    command = [sys.executable, "-c", "from wsi_kd.cli.app import main; main()", "view"]
    with subprocess.Popen(
        [*command, str(synthetic_slide("tumor").path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        line = process.stdout.readline()
        assert line.startswith("view: http://127.0.0.1:")
        address = urlsplit(line.removeprefix("view: ").strip())
        assert address.port > 1023
        status, headers, _ = request(address.port, f"/?{address.query}")
        assert status == 303
        cookie = headers["set-cookie"].partition(";")[0]
        status, headers, tile = request(address.port, "/dzi/0/10/0_0.jpg", cookie=cookie)
        assert (status, headers["content-type"], tile[:2]) == (200, "image/jpeg", b"\xff\xd8")
        assert "server" not in headers
        for target in ("/static/../app.py", "/static/%2e%2e/app.py", "/../../../etc/passwd", "//etc/passwd"):
            assert request(address.port, target, cookie=cookie)[0] == 404
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (0, "view: stopped\n", "")


def request(port: int, target: str, *, cookie: str = ""):
    """Send a target as it stands: http.client changes nothing of it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", target, headers={"Cookie": cookie} if cookie else {})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body

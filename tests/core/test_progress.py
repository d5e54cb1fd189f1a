"""Progress: bars for terminals alone, a line a slide for machines, silence in between."""

import json
import os
import pty
import select
import subprocess
import sys

import pytest

from wsi_kd.core.messages import Words, listening
from wsi_kd.core.progress import progress, slide_progress
from wsi_kd.core.records import SlideStatus, StatusRow

PROGRAM = """
import sys
from wsi_kd.cli import app
from wsi_kd.core.messages import say
from wsi_kd.core.progress import progress
def work(*_, **__):
    with progress("mask", total=2, unit="slides") as advance:
        for slide_id in ("first", "[bold]second"):
            with progress("embed", total=5, unit="tiles") as inner:
                inner(5)
            say(f"{slide_id}: ok")
            advance(slide_id=slide_id)
app.app = work
sys.exit(app.run(sys.argv[1:]))
"""


def seen_in_a_terminal(arguments: list[str]) -> tuple[str, str]:
    """Run the program with a terminal as stderr and a pipe as stdout; return stdout and what was drawn."""
    mine, its = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    job = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=its, env=environment
    )
    os.close(its)
    drawn = b""
    while select.select([mine], [], [], 120)[0]:
        try:
            part = os.read(mine, 4096)
        except OSError:  # Linux says so when the program has closed its end
            break
        if not part:
            break
        drawn += part
    assert job.stdout is not None
    out = job.stdout.read().decode()
    job.stdout.close()
    assert job.wait(timeout=300) == 0
    os.close(mine)
    return out, drawn.decode()


def test_a_terminal_shows_a_bar_and_pipes_stay_clean():
    out, drawn = seen_in_a_terminal(["mask"])
    assert out == "first: ok\n[bold]second: ok\n"
    assert "2/2" in drawn
    assert "slides" in drawn
    assert "[bold]second" in drawn
    assert "tiles" not in drawn


@pytest.mark.parametrize("option", ["--quiet", "--json-logs"])
def test_quiet_and_json_commands_draw_nothing(option):
    _, drawn = seen_in_a_terminal(["mask", option])
    assert "\x1b[" not in drawn
    assert "2/2" not in drawn


def test_no_terminal_no_bar_and_no_line(capsys):
    with listening(Words("train")), progress("train", total=2, unit="epochs") as advance:
        advance(note="validation loss 0.5")
        advance(note="validation loss 0.4")
    assert capsys.readouterr() == ("", "")


def test_epochs_are_json_lines_and_bare_counts_are_not(capsys):
    with listening(Words("train", json_lines=True)), progress("train", total=4, unit="epochs") as advance:
        advance(2)
        advance(note="validation loss 0.5")
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    del line["time"]
    assert line == {
        "level": "info",
        "command": "train",
        "done": 3,
        "total": 4,
        "unit": "epochs",
        "message": "train: validation loss 0.5",
    }


def test_every_slide_of_a_job_is_named_once(capsys):
    rows = [
        StatusRow("a", SlideStatus.OK, "", "mask", 0, 1.0, 0.5, "metadata", 0.1),
        StatusRow("b", SlideStatus.UNREADABLE, "cut off", "mask", 0, 0.0, 0.0, "", 0.1),
    ]
    for words in (Words("mask", json_lines=True), Words("mask")):
        with listening(words), slide_progress("mask", total=2) as finish:
            for row in rows:
                finish(row)
    lines = capsys.readouterr().err.splitlines()
    told = [json.loads(line) for line in lines[:2]]
    assert [(line["slide_id"], line["level"], line["done"]) for line in told] == [
        ("a", "info", 1),
        ("b", "warning", 2),
    ]
    assert lines[2:] == ["mask: b: unreadable: cut off"]

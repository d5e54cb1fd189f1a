"""What a command says, in plain words, quietly and as JSON lines."""

import io
import json
import logging
import subprocess
import sys
import warnings
from datetime import UTC, datetime, timedelta

import pytest

from wsi_kd.cli import app as app_module
from wsi_kd.cli.app import run
from wsi_kd.cli.words import take_words
from wsi_kd.core.errors import BadInput, SlideProblem
from wsi_kd.core.messages import LOG, Words, detail, listening, say, tell_slide, warn
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.slides.reader import open_slide


def status(slide_id: str, how: SlideStatus, step: str = "mask") -> StatusRow:
    reason = "" if how == SlideStatus.OK else "glass, no tissue"
    return StatusRow(slide_id, how, reason, step, 3, 1.0, 0.5, "metadata", 0.1)


def speak() -> None:
    say("mask: 2 slides")
    detail("mask: a: ok", slide_id="a", done=1, total=2, unit="slides")
    warn("mask: b: empty", slide_id="b")
    logging.getLogger("wsi_kd.training.somewhere").warning("epoch %d: mining stopped", 3)
    LOG.error("no space left")


def json_lines(shown: str) -> list[dict]:
    return [json.loads(line) for line in shown.splitlines()]


def test_plain_words_tell_what_was_done_on_stdout_and_the_rest_on_stderr(capsys):
    with listening(Words("mask")):
        speak()
    shown = capsys.readouterr()
    assert shown.out == "mask: 2 slides\n"
    assert shown.err == "mask: b: empty\nepoch 3: mining stopped\nwsi-kd: error: no space left\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_no_name_ends_a_run_whatever_the_terminal_takes(encoding, monkeypatch):
    shown = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setattr(
        logging.getLogger(), "handlers", []
    )  # pytest's: its report cannot be sent with such a name
    with listening(Words("mask")):
        say("é € \udcff: ok")
    written = shown.buffer.getvalue().decode(encoding)
    assert (
        written
        == {
            "ascii": "\\xe9 \\u20ac \\udcff: ok\n",
            "latin-1": "é \\u20ac \\udcff: ok\n",
            "utf-8": "é € \\udcff: ok\n",
        }[encoding]
    )


def test_a_quiet_command_tells_of_faults_alone(capsys):
    with listening(Words("mask", quiet=True)):
        speak()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "mask: b: empty\nepoch 3: mining stopped\nwsi-kd: error: no space left\n"


def test_json_lines_carry_time_level_command_slide_and_message(capsys):
    with listening(Words("mask", json_lines=True)):
        speak()
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = json_lines(shown.err)
    now = datetime.now(UTC)
    assert all(now - datetime.fromisoformat(line.pop("time")) < timedelta(minutes=10) for line in lines)
    said = {"level": "info", "command": "mask"}
    warned = {"level": "warning", "command": "mask"}
    assert lines == [
        {**said, "message": "mask: 2 slides"},
        {**said, "slide_id": "a", "done": 1, "total": 2, "unit": "slides", "message": "mask: a: ok"},
        {**warned, "slide_id": "b", "message": "mask: b: empty"},
        {**warned, "message": "epoch 3: mining stopped"},
        {"level": "error", "command": "mask", "message": "no space left"},
    ]


def test_quiet_json_lines_are_faults_alone(capsys):
    with listening(Words("mask", quiet=True, json_lines=True)):
        speak()
    assert [line["level"] for line in json_lines(capsys.readouterr().err)] == ["warning", "warning", "error"]


def test_hostile_text_stays_one_json_line(capsys):
    with listening(Words("infer", json_lines=True)):
        warn('a"\n<script>\x1b[31m\u2028 %s', slide_id='x\n"y')
    (line,) = capsys.readouterr().err.rstrip("\n").split("\n")
    assert json.loads(line)["slide_id"] == 'x\n"y'
    assert json.loads(line)["message"] == 'a" <script>\x1b[31m %s'


def test_python_warnings_become_json_lines_too(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with listening(Words("train", json_lines=True)):
            warnings.warn("few slides", UserWarning, stacklevel=1)
    (line,) = json_lines(capsys.readouterr().err)
    assert line["level"] == "warning"
    assert "UserWarning: few slides" in line["message"]


def test_other_packages_warnings_become_json_lines_and_their_chatter_does_not(capsys):
    with listening(Words("embed", json_lines=True)):
        logging.getLogger("timm.models").warning("no pretrained weights")
        logging.getLogger("timm.models").info("building")
    (line,) = json_lines(capsys.readouterr().err)
    assert (line["level"], line["message"]) == ("warning", "no pretrained weights")


def test_a_damaged_slide_is_told_once(tmp_path, capsys):
    """tifffile's own remarks on a damaged directory stay out of the JSON lines."""
    (tmp_path / "cut.tif").write_bytes(b"II*\0" + (4096).to_bytes(4, "little") + bytes(64))
    with listening(Words("mask", json_lines=True)), pytest.raises(SlideProblem):
        open_slide(tmp_path / "cut.tif", background="white").__enter__()
    assert capsys.readouterr().err == ""


def test_words_end_where_the_command_ends(capsys):
    with listening(Words("mask")):
        pass
    say("nobody listens")
    assert capsys.readouterr().out == ""
    assert LOG.handlers == []


@pytest.mark.parametrize(
    ("row", "level"),
    [
        (status("a", SlideStatus.OK), "info"),
        (status("b", SlideStatus.EMPTY), "warning"),
        (status("b", SlideStatus.EMPTY, step="tile"), "info"),
    ],
)
def test_a_failed_slide_is_a_warning_in_the_step_where_it_failed(row, level, capsys):
    with listening(Words("mask", json_lines=True)):
        tell_slide(row, step="mask")
    (line,) = json_lines(capsys.readouterr().err)
    assert (line["level"], line["slide_id"]) == (level, row.slide_id)
    told = f"mask: {row.slide_id}: {row.status}"
    assert line["message"] == (told if row.status == "ok" else f"{told}: glass, no tissue")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--json-logs", "features", "verify", "x"],
        ["features", "--json-logs", "verify", "x"],
        ["features", "verify", "x", "--json_logs"],
    ],
)
def test_options_of_every_command_stand_anywhere_before_its_end(arguments):
    words, rest = take_words(arguments, groups={"features"})
    assert words == Words("features verify", json_lines=True)
    assert rest == ["features", "verify", "x"]


def test_what_follows_two_dashes_is_left_alone():
    words, rest = take_words(["info", "--", "--quiet"], groups=())
    assert words == Words("info")
    assert rest == ["info", "--", "--quiet"]


@pytest.mark.parametrize("place", [0, 1])
def test_errors_are_one_json_line_with_the_same_exit_code(place, monkeypatch, capsys):
    def fail(*_, **__):
        raise BadInput("s1.svs: no\nresolution")

    monkeypatch.setattr(app_module, "app", fail)
    arguments = ["mask"]
    arguments.insert(place, "--json-logs")
    assert run(arguments) == 2
    shown = capsys.readouterr()
    (line,) = json_lines(shown.err)
    assert (line["level"], line["command"]) == ("error", "mask")
    assert line["message"] == "s1.svs: no resolution"
    assert shown.out == ""


@pytest.mark.parametrize("arguments", [["tiel", "--json-logs"], ["--json-logs", "train", "--seed", "one"]])
def test_bad_usage_is_one_json_line(arguments, capsys):
    assert run(arguments) == 2
    (line,) = json_lines(capsys.readouterr().err)
    assert line["level"] == "error"


def test_help_names_the_options_and_starts_without_progress_bars():
    program = (
        "import sys\n"
        "from wsi_kd.cli.app import run\n"
        "code = run(['mask', '--help'])\n"
        "print(code, 'rich.progress' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stderr == "0 False\n"
    assert "--quiet" in done.stdout
    assert "--json-logs" in done.stdout

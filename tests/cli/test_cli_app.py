"""The entry point: exit codes, one line an error, both spellings of an option."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wsi_kd.cli import app as app_module
from wsi_kd.cli.app import run
from wsi_kd.core.errors import BadInput, RunFailed, SlideProblem
from wsi_kd.core.records import SlideStatus


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BadInput("slides.csv: no such file"), 2, "wsi-kd: error: slides.csv: no such file\n"),
        (RunFailed("out: no space\nleft"), 1, "wsi-kd: error: out: no space left\n"),
        (SlideProblem(SlideStatus.EMPTY, "glass"), 1, "wsi-kd: error: empty: glass\n"),
        (
            PermissionError(13, "Permission denied", "in/a.svs"),
            2,
            "wsi-kd: error: in/a.svs: Permission denied; change its rights, or those of a folder above it\n",
        ),
        (
            KeyboardInterrupt(),
            130,
            "wsi-kd: error: interrupted; finished files are whole, run the same command again to go on\n",
        ),
    ],
)
def test_known_errors_are_one_line(error, code, line, monkeypatch, capsys):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(app_module, "app", fail)
    assert run(["mask"]) == code
    shown = capsys.readouterr()
    assert shown.err == line
    assert shown.out == ""


def test_a_bug_keeps_its_traceback(monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(app_module, "app", fail)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run(["mask"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["tiel"], "No such command 'tiel'."),
        (["tile", "--confg", "x"], "--config"),
        (["train", "--seed", "one"], "--seed"),
        (["tile"], "give either --config FILE"),
        (["tile", "--settings", "{}", "--config", "x"], "give either --config FILE"),
        (["tile", "--settings", "{"], "--settings: not valid JSON"),
        (["tile", "--settings", '{"tile": {"tile_mp": 1}}'], "(did you mean 'tile_mpp'?)"),
        (["tile", "--config", "absent.yaml"], "absent.yaml: cannot be read"),
        (["infer", "x.svs", "--model", "absent", "--out", "y"], "--model absent: no model.json there"),
    ],
)
def test_bad_usage_is_exit_code_two_and_one_line(arguments, told, capsys):
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("wsi-kd: error: ")
    assert told in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_no_argument_shows_the_commands(capsys):
    assert run([]) == 0
    shown = capsys.readouterr().out
    for command in ("doctor", "demo-cohort", "infer", "mask", "report", "check-status", "summary", "config"):
        assert command in shown


def test_underscores_in_names_are_accepted(tmp_path, capsys):
    lines = {}
    for spelling in (["check-status", "--results-dir"], ["check_status", "--results_dir"]):
        run([*spelling, str(tmp_path / "none_here"), "--settings", "{}"])
        lines[spelling[0]] = capsys.readouterr().err
    assert "none_here" in lines["check-status"]
    assert lines["check-status"] == lines["check_status"]


def test_config_prints_what_configs_holds(capsys):
    configs = Path(__file__).resolve().parents[2] / "configs"
    assert run(["config", "default"]) == 0
    assert capsys.readouterr().out == (configs / "default.yaml").read_text()
    assert run(["config", "schema"]) == 0
    assert capsys.readouterr().out == (configs / "schema.json").read_text()


def test_a_closed_pipe_is_no_traceback():
    program = "import sys; from wsi_kd.cli.app import main; main(['config', 'schema'])"
    command = f'{sys.executable} -c "{program}" | head -c 10; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout == '{\n "$schema'[:10]
    assert done.stderr == ""


def test_sigterm_removes_the_temporary_file(tmp_path):
    """A job that its scheduler ends leaves the former file whole and nothing half-written beside it."""
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from wsi_kd.cli import app\n"
        "from wsi_kd.core.files import publish\n"
        "def slow(*_, **__):\n"
        f"    with publish(Path({str(tmp_path)!r}) / 'file.txt') as temporary:\n"
        "        temporary.write_text('half')\n"
        "        print('writing', flush=True)\n"
        "        for _ in range(6000):\n"
        "            time.sleep(0.1)\n"  # what arrives just before one long sleep is heard after it
        "app.app = slow\n"
        "app.main(['mask'])\n"
    )
    job = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None
    with job.stdout:
        assert job.stdout.readline() == "writing\n"
        os.kill(job.pid, signal.SIGTERM)
        try:
            assert job.wait(timeout=300) == 143
        finally:
            job.kill()
    assert list(tmp_path.iterdir()) == []


def test_settings_json_reaches_the_step(tmp_path, monkeypatch):
    """What a rule passes as --settings is what the step gets, and --chunk picks its rows."""
    from wsi_kd.cli import slides

    seen = {}
    monkeypatch.setattr(
        slides, "_run_step", lambda run_, step, **given: seen.update(run=run_, step=step, **given) or []
    )
    rows = [f"s{index},s{index}.tif,{'normal' if index % 2 else 'tumor'}" for index in range(5)]
    (tmp_path / "slides.csv").write_text("\n".join(["slide_id,path,label", *rows]) + "\n")
    for index in range(5):
        (tmp_path / f"s{index}.tif").touch()
    settings = {
        "run": {"manifest": str(tmp_path / "slides.csv"), "slides_per_job": 2, "results_dir": "out"},
        "tile": {"tile_mpp": 1.25},
    }
    assert run(["tile", "--settings", json.dumps(settings), "--chunk", "2"]) == 0
    assert seen["step"] == "tile"
    assert seen["number"] == 2
    assert [row.slide_id for row in seen["rows"]] == ["s4"]
    assert seen["run"].settings.tile.tile_mpp == 1.25
    assert seen["run"].layout.chunk_status("tile", 2) == Path("out/tiles/chunk-2.csv")


def test_a_chunk_that_is_not_there_is_refused(tmp_path, capsys):
    (tmp_path / "slides.csv").write_text("slide_id,path,label\na,a.tif,normal\nb,b.tif,tumor\n")
    (tmp_path / "a.tif").touch()
    (tmp_path / "b.tif").touch()
    assert run(["mask", "--settings", "{}", "--manifest", str(tmp_path / "slides.csv"), "--chunk", "1"]) == 2
    assert "--chunk 1: counted from 0, the manifest has 1 chunks of 16 rows" in capsys.readouterr().err


def test_a_manifest_edited_during_the_run_stops_the_job(tmp_path, capsys):
    (tmp_path / "slides.csv").write_text("slide_id,path,label\na,a.tif,normal\nb,b.tif,tumor\n")
    (tmp_path / "a.tif").touch()
    (tmp_path / "b.tif").touch()
    arguments = ["--settings", "{}", "--manifest", str(tmp_path / "slides.csv"), "--rows-hash", "0" * 64]
    assert run(["mask", *arguments]) == 2
    assert "edited while the workflow ran" in capsys.readouterr().err

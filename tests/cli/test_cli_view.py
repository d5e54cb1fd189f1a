"""The command view: what a finished run prints of it, its export and its faults."""

import shlex
import sys
from pathlib import Path

import pytest
from viewed_runs import write_manifest, write_statuses

from wsi_kd.cli.app import run as run_command
from wsi_kd.cli.check import view_command
from wsi_kd.cli.crash_guard import is_guarded
from wsi_kd.cli.layout import Layout
from wsi_kd.cli.options import Run
from wsi_kd.core.messages import Words
from wsi_kd.settings.all import parse_settings


@pytest.mark.parametrize(
    ("arguments", "guarded"),
    [
        (["view", "run"], False),
        (["view", "run", "--static", "out"], True),
        (["view", "run", "--static=out"], True),
        (["mask", "--config", "my.yaml"], True),
        (["summary", "--config", "my.yaml"], False),
    ],
)
def test_what_reads_slides_itself_stands_under_guard(arguments: list[str], guarded: bool) -> None:
    assert is_guarded(Words(arguments[0]), arguments) is guarded


def run_of(**section) -> Run:
    settings = parse_settings({"run": section}, where="test")
    return Run(settings, Layout(settings.run.results_dir))


@pytest.mark.parametrize(
    ("called", "program"), [(".venv/bin/wsi-kd", ".venv/bin/wsi-kd"), ("/usr/bin/pytest", "wsi-kd")]
)
def test_the_viewers_command_names_the_program_as_it_was_called(monkeypatch, called, program) -> None:
    monkeypatch.setattr(sys, "argv", [called, "summary"])
    told = view_command(run_of(manifest="a b/slides.csv", results_dir="results/demo"))
    assert shlex.split(told) == [program, "view", "results/demo", "--manifest", "a b/slides.csv"]


def test_a_program_on_the_path_is_called_by_its_name(monkeypatch, tmp_path: Path) -> None:
    program = tmp_path / "wsi-kd"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(program), "summary"])
    told = view_command(run_of(results_dir="out", slides_dir="/scans"))
    assert told == "wsi-kd view out --manifest slides.csv --slides-dir /scans"


def test_a_slide_is_exported_with_its_size_told_before(synthetic_slide, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    slide = str(synthetic_slide("tumor").path)
    assert run_command(["view", slide, "--static", str(out), "--um-per-px", "2", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert run_command(["view", slide, "--static", str(out), "--um-per-px", "2"]) == 0
    before, after = capsys.readouterr().out.splitlines()
    assert before.startswith("view: 10 tiles down to 2 um/px, about 0.")
    assert before.endswith(f" MB, to {out}")
    assert after.startswith(f"view: {out / 'index.html'} (0.")
    assert sorted(path.name for path in (out / "tiles").iterdir()) == [str(level) for level in range(9)]


def test_a_settings_file_names_run_slides_title_and_classes(synthetic_slide, tmp_path: Path, capsys) -> None:
    slide = synthetic_slide("tumor").path
    write_manifest(tmp_path / "slides.csv", [("tumor", str(slide), "tumor", "")])
    write_statuses(tmp_path / "run", {"tumor": ("ok", "")})
    config = tmp_path / "my.yaml"
    places = f"manifest: {tmp_path}/slides.csv, results_dir: {tmp_path}/run"
    config.write_text(f"run: {{{places}, title: Trial, classes: [a, tumor]}}")
    assert run_command(["view", "--config", str(config), "--static", str(tmp_path / "out")]) == 0
    data = (tmp_path / "out" / "data.js").read_text()
    assert '"title":"Trial"' in data
    assert '"classes":["a","tumor"],"positive":["tumor"]' in data


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--color", "red"], "unknown color 'red'; known: as_stored, srgb"),
        (["--um-per-px", "inf", "--static", "out"], "--um-per-px inf: expected a number of um/px"),
        (["--um-per-px", "-1"], "'--um-per-px'"),
        (["--slide-mpp", "nan"], "--slide-mpp nan: expected a positive number"),
        (["--port", "99999"], "'--port'"),
        (["--host", "no.such.host.invalid"], "cannot be bound"),
    ],
)
def test_faults_are_one_line(synthetic_slide, capsys, options: list[str], told: str) -> None:
    assert run_command(["view", str(synthetic_slide("tumor").path), *options]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == (2 if "--host" in options else 1)

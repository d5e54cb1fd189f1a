"""`wsi-kd doctor`: each fault is found, with its remedy, and only faults fail."""

import shutil

import pytest
import yaml

from wsi_kd.cli import diagnosis
from wsi_kd.cli.app import run
from wsi_kd.cli.diagnosis import (
    State,
    check_copies,
    check_disk,
    check_drawings,
    check_folds,
    check_manifest,
    compare,
)
from wsi_kd.settings.all import parse_settings


@pytest.mark.parametrize(
    ("found", "state"),
    [
        ("4.0.1", State.OK),
        ("4.0.0", State.BROKEN),
        ("3.4.1", State.BROKEN),
        ("4.1.0", State.OK),
        ("10.0.0", State.OK),
        ("4.0.1+cpu", State.OK),
    ],
)
def test_versions_are_compared_as_numbers(found, state):
    check = compare("OpenSlide", found, floor=(4, 0, 1), remedy="upgrade")
    assert check.state is state
    assert check.remedy == ("" if state is State.OK else "upgrade")


def test_a_whole_installation_passes(capsys):
    assert run(["doctor"]) == 0
    shown = capsys.readouterr().out
    for name in ("OpenSlide", "torch", "timm", "CPU cores"):
        assert name in shown
    assert "broken" not in shown


def test_every_fault_of_a_cohort_is_told(tmp_path, capsys):
    (tmp_path / "my.yaml").write_text(yaml.safe_dump({"run": {"manifest": str(tmp_path / "absent.csv")}}))
    assert run(["doctor", "--config", str(tmp_path / "my.yaml")]) == 2
    shown = capsys.readouterr()
    assert shown.out.count("broken") == 1
    assert "checks failed: manifest" in shown.err


def test_folds_and_drawings_are_looked_at(tmp_path, synthetic_cohort):
    settings = {"run": {"manifest": str(synthetic_cohort.manifest)}, "split": {"folds": 3}}
    parsed = parse_settings(settings, where="test")
    _, manifest = check_manifest(parsed)
    assert check_folds(parsed, manifest).found.startswith("3; slides in train/val/test: ")
    assert check_drawings(parsed, manifest).found == "6 annotations, 0 outlines of tissue"
    parsed = parse_settings({**settings, "split": {"folds": 5}}, where="test")
    assert check_folds(parsed, manifest).state is State.BROKEN
    (tmp_path / "case00_0.geojson").write_text("{")
    for folder, told in ((tmp_path, "case00_0.geojson: not valid JSON"), (tmp_path / "gone", "is no folder")):
        parsed = parse_settings({**settings, "mask": {"edited_dir": str(folder)}}, where="test")
        check = check_drawings(parsed, manifest)
        assert check.state is State.BROKEN
        assert told in check.found


def test_the_need_of_disk_follows_from_the_slides(tmp_path, monkeypatch, synthetic_slide):
    """1024 x 768 px at 0.5 um/px are 3 x 4 = 12 tiles of 256 px, 100 bytes each; a slide 64 KiB beside."""
    normal, tumor = synthetic_slide("normal").path, synthetic_slide("tumor").path
    (tmp_path / "slides.csv").write_text(f"slide_id,path,label\na,{normal},normal\nb,{tumor},tumor\n")
    run_section = {"manifest": str(tmp_path / "slides.csv"), "results_dir": str(tmp_path / "out/deep")}
    settings = parse_settings({"run": run_section}, where="test")
    _, manifest = check_manifest(settings)
    needed = 2 * (12 * 100 + 65536)

    def state_with(free: int) -> State:
        monkeypatch.setattr(diagnosis.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(free, 0, free))
        return check_disk(settings, manifest, bytes_per_tile=100).state

    assert state_with(needed) is State.OK
    assert state_with(needed - 1) is State.WARNING
    assert state_with(needed // 10 - 1) is State.BROKEN


def manifest_of(folder, *lines):
    (folder / "slides.csv").write_text("\n".join(["slide_id,path,label,case_id", *lines]) + "\n")
    settings = parse_settings({"run": {"manifest": str(folder / "slides.csv")}}, where="test")
    return check_manifest(settings)


def test_copies_of_a_slide_are_told_and_files_of_another_size_or_content_are_none(tmp_path):
    for name, content in {"a": b"one", "b": b"two", "d": b"longer"}.items():
        (tmp_path / f"{name}.svs").write_bytes(content)
    shutil.copy(tmp_path / "a.svs", tmp_path / "c.svs")
    (tmp_path / "e.svs").symlink_to("d.svs")
    rows = [f"{name},{name}.svs,{'normal' if name in 'ab' else 'tumor'},case_{name}" for name in "abcde"]
    _, manifest = manifest_of(tmp_path, *rows)
    check = check_copies(manifest)
    assert check.state is State.WARNING
    assert "several ids: a = c, d = e;" in check.found
    assert check_copies(manifest._replace(rows=manifest.rows[:2])).state is State.OK


def test_the_negative_class_and_a_manifest_without_patients_are_told(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.svs").write_bytes(name.encode())
    check, _ = manifest_of(tmp_path, "a,a.svs,benign,p1", "b,b.svs,g3,p1", "c,c.svs,g4,p2")
    assert (check.state, check.found) == (
        State.OK,
        "3 slides of 2 cases; classes: benign (negative), g3, g4",
    )
    check, _ = manifest_of(tmp_path, "a,a.svs,benign,", "b,b.svs,g3,", "c,c.svs,g4,c")
    assert check.state is State.WARNING
    assert "no patient is named" in check.found
    assert check.remedy == "fill the column case_id"

"""`wsi-kd info`: what it tells, what it never tells, and its exit codes."""

import json
import re
import sys

import pytest
import tifffile
from synthetic import draw_slide

from wsi_kd.cli.app import run
from wsi_kd.slides.reader import open_slide


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    for kind in ("tumor", "empty", "missing_mpp", "truncated"):
        draw_slide(folder, kind)
    return folder


def told(capsys):
    """Lines of one slide as a dict; a name that stands twice keeps its last value."""
    out = capsys.readouterr().out
    return {line.partition(":")[0]: line.partition(":")[2].strip() for line in out.splitlines()}


def test_one_slide_line_by_line(cohort, capsys):
    assert run(["info", str(cohort / "tumor.tiff")]) == 0
    lines = told(capsys)
    assert lines["status"] == "ok"
    assert lines["format"] == "openslide/generic-tiff"
    assert lines["compression"] == "JPEG"
    assert lines["level 0"] == "1024x768 px, downsample 1, stored in 256x256 px"
    assert lines["um/px"].startswith("0.5 by tiff: openslide.mpp-x/-y")
    assert lines["are read"] == "256 px of level 0, not resized"
    assert lines["read by"] == "stored JPEG tiles by offset"
    assert lines["tiles"] == "4 on tissue, 12 at most"
    assert lines["other images"] == "none"


def test_what_is_read_follows_the_tiles_asked_for(cohort, capsys):
    assert run(["info", str(cohort / "tumor.tiff"), "--tile-mpp", "2", "--tile_px", "128", "--header"]) == 0
    lines = told(capsys)
    assert lines["level 1"].startswith("256x192 px, downsample 4")
    assert lines["tiles of"] == "128 px at 2 um/px"
    assert lines["are read"] == "128 px of level 1, not resized"
    assert lines["tiles"] == "2 at most"
    assert "tissue" not in lines


def test_a_slide_that_is_too_coarse_or_has_no_resolution_says_so(cohort, capsys):
    assert run(["info", str(cohort / "tumor.tiff"), "--tile-mpp", "0.1"]) == 1
    lines = told(capsys)
    assert lines["status"] == "too_coarse"
    assert lines["reason"].startswith("scanned at 0.5 um/px, tiles need 0.1")
    assert run(["info", str(cohort / "missing_mpp.tiff"), "--header"]) == 1
    assert told(capsys)["status"] == "missing_mpp"
    assert run(["info", str(cohort / "missing_mpp.tiff"), "--slide-mpp", "0.5"]) == 0
    assert told(capsys)["um/px"].startswith("0.5 by override")


def test_a_folder_is_one_line_a_slide(cohort, capsys):
    assert run(["info", str(cohort)]) == 1
    out, error = capsys.readouterr()
    header, *rows = [line.split("\t") for line in out.splitlines()]
    found = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert {name: row["status"] for name, row in found.items()} == {
        "empty": "empty",
        "missing_mpp": "missing_mpp",
        "truncated": "unreadable",
        "tumor": "ok",
    }
    assert found["tumor"]["tiles"] == "4"
    assert found["tumor"]["size px"] == "1024x768"
    assert all(row["reason"] for row in found.values() if row["status"] != "ok")
    assert error.strip().endswith("3 of 4 slides cannot be used: empty, missing_mpp, truncated")


def test_a_terminal_gets_tables_with_the_same_words(cohort, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(["info", str(cohort / "tumor.tiff"), "--header"]) == 0
    out = capsys.readouterr().out
    assert "1024x768 px, downsample 1, stored in 256x256 px" in out
    assert "status:" not in out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(["info", str(cohort), "--header"]) == 1
    out = re.sub(r"\x1b\[[0-9;]*m|│", " ", capsys.readouterr().out)
    assert {"missing_mpp", "ok", "tumor", "1024x768"} <= set(out.split())
    assert "missing_mpp: no resolution in its metadata" in " ".join(out.split())
    assert "\t" not in out


def test_json_holds_the_same(cohort, capsys):
    assert run(["info", str(cohort / "tumor.tiff"), str(cohort / "empty.tiff"), "--json"]) == 1
    tumor, empty = json.loads(capsys.readouterr().out)
    assert (tumor["slide_id"], tumor["status"], tumor["tiles"]) == ("tumor", "ok", 4)
    assert tumor["mpp"]["mpp"] == 0.5
    assert tumor["plan"]["read_px"] == 256
    assert tumor["stored"]["levels"][0]["width_px"] == 1024
    assert tumor["stored"]["bounds"]["width_level0_px"] == 1024
    assert (empty["status"], empty["tiles"]) == ("empty", 0)


@pytest.mark.parametrize(
    "arguments",
    [["nowhere.svs"], ["a" * 300 + ".svs"], ["--tile-mpp", "0"], ["--tile-px", "2"], ["--slide-mpp", "-1"]],
)
def test_bad_arguments_end_with_2(cohort, capsys, arguments):
    slides = [] if arguments[0].endswith("svs") else [str(cohort / "tumor.tiff")]
    assert run(["info", *slides, *arguments]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_no_word_of_the_patient_is_printed(tmp_path, capsys):
    slide = draw_slide(tmp_path, "transparent")  # an Aperio file
    with tifffile.TiffFile(slide.path, mode="r+") as tiff:
        text = tiff.pages[0].description
        tiff.pages[0].tags["ImageDescription"].overwrite(
            text + "|User = DOE|Barcode = DOE-4711|Date = 01/02/03|Filename = DOE^JANE"
        )
    with open_slide(slide.path, background="metadata") as reader:
        assert "DOE" in str(reader.properties)
    for arguments in ([], ["--json"]):
        assert run(["info", str(slide.path), *arguments]) == 0
        out = capsys.readouterr().out
        assert "aperio" in out
        assert "DOE" not in out
        assert "01/02/03" not in out


def test_a_level_between_two_is_read_from_the_finer_one(cohort, capsys):
    assert run(["info", str(cohort / "tumor.tiff"), "--tile-mpp", "1", "--header"]) == 0
    assert told(capsys)["are read"] == "512 px of level 0, shrunk 2 times"


@pytest.mark.shared_data
def test_every_faulty_file_is_told_with_its_reason(shared_data, capsys):
    files = sorted(path for path in (shared_data / "faulty").iterdir() if path.is_file())
    assert run(["info", *map(str, files), "--json"]) == 1
    found = {one["file"]: one for one in json.loads(capsys.readouterr().out)}
    assert {name: one["status"] for name, one in found.items()} == {
        "empty.svs": "unreadable",
        "histolab_broken.svs": "unreadable",
        "li_notanimage.txt": "unreadable",
        "openslide_boxes.tiff": "missing_mpp",
        "openslide_small.svs": "empty",
        "openslide_unopenable.tiff": "unreadable",
        "openslide_unreadable.svs": "unreadable",
    }
    assert all(one["reason"] for one in found.values())


@pytest.mark.shared_data
def test_real_slides_are_told(shared_data, capsys):
    assert run(["info", str(shared_data / "wsi"), "--json", "--header"]) == 1
    found = {one["slide_id"]: one for one in json.loads(capsys.readouterr().out)}
    aperio = found["CMU-1-Small-Region"]
    assert aperio["stored"]["associated"] == {
        "label": [387, 463],
        "macro": [1280, 431],
        "thumbnail": [574, 768],
    }
    assert (aperio["tiles_at_most"], aperio["tiles"]) == (8 * 11, None)
    assert found["OS-1-detail"]["stored"]["facts"]["format"] == "tiff/ome"
    dicom = found["ezwsi_multiframe_camelyon_challenge_image"]
    assert (dicom["status"], dicom["stored"]["compression"]) == ("missing_mpp", "JPEG")

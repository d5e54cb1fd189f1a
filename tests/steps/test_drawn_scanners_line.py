"""Mask, tile and embed on one drawn slide of every scanner: tiles lie on the drawn tissue, no name leaks."""

import contextlib
import csv
import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import shapely
import yaml
from dicom_series import write_series
from drawn_scanners import DRAWN, draw, painted
from hamamatsu_files import write_vms
from leak_search import is_leaking, leaks_below
from planted_slides import word
from synthetic import PIECES, ellipse

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.cli.app import run
from wsi_kd.features.store import read_features
from wsi_kd.settings.all import parse_settings
from wsi_kd.slides.hamamatsu_index import hamamatsu_parts
from wsi_kd.slides.reader import open_slide
from wsi_kd.steps.mask import mask_slide
from wsi_kd.tissue.polygons import read_tissue

SETTINGS = {
    "run": {"manifest": "slides.csv", "results_dir": "out", "slides_per_job": 16},
    "tile": {"tile_px": 64, "tile_mpp": 1.0},
}
TILE_LEVEL0_PX = 128
TISSUE = shapely.unary_union([ellipse(piece) for piece in PIECES])
PATIENT = word("Patient")
REFERENCE = "dicom raw"
IDS = {kind: f"S{number}" for number, kind in enumerate(DRAWN)}


class Line(NamedTuple):
    """A folder in which the steps were run, the slides by kind, and all that was said."""

    folder: Path
    slides: dict[str, Path]
    said: str
    as_json: str


def plant(folder):
    """Draw every slide below a folder and in files that are called as the patient is."""
    home = folder / PATIENT
    home.mkdir()
    slides = {kind: draw(kind, home, name=f"{PATIENT} {IDS[kind]}", patient=PATIENT) for kind in DRAWN}
    with (folder / "slides.csv").open("w", newline="") as handle:
        rows = [
            (IDS[kind], path.relative_to(folder), ("normal", "tumor")[number % 2], kind)
            for number, (kind, path) in enumerate(slides.items())
        ]
        csv.writer(handle).writerows([("slide_id", "path", "label", "case_id"), *rows])
    (folder / "my.yaml").write_text(yaml.safe_dump(SETTINGS))
    return slides


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scanners")
    slides = plant(folder)
    said = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        for command in (
            *((step, "--chunk", "0", "--config", "my.yaml") for step in ("mask", "tile", "embed")),
            ("info", "slides.csv", "--config", "my.yaml", "--header"),
        ):
            assert run(list(command)) == 0, said.getvalue()
        with contextlib.redirect_stdout(io.StringIO()) as told:
            assert run(["info", "slides.csv", "--config", "my.yaml", "--header", "--json"]) == 0
    return Line(folder, slides, said.getvalue(), told.getvalue())


@pytest.mark.parametrize("kind", DRAWN)
def test_the_line_finds_the_drawn_tissue_and_tiles_it(line, kind):
    tissue = read_tissue(line.folder / "out" / "masks" / f"{IDS[kind]}.geojson")
    assert (tissue.header["status"], tissue.header["reason"]) == ("ok", "")
    common = tissue.tissue.intersection(TISSUE).area / tissue.tissue.union(TISSUE).area
    assert common > 0.8  # a mask of 8 um/px
    features = read_features(line.folder / "out" / "features" / f"{IDS[kind]}.h5")
    assert (features.header["status"], features.header["damaged_tiles"]) == ("ok", 0)
    assert 19 <= len(features.coords) <= 22
    tiles = [shapely.box(x, y, x + TILE_LEVEL0_PX, y + TILE_LEVEL0_PX) for x, y in features.coords.tolist()]
    assert all(tile.intersection(TISSUE).area > 0.25 * tile.area for tile in tiles)
    assert shapely.unary_union(tiles).intersection(TISSUE).area > 0.8 * TISSUE.area
    assert np.isfinite(features.features.astype(float)).all()


@pytest.mark.parametrize("kind", [kind for kind in DRAWN if kind != REFERENCE])
def test_the_same_tissue_has_the_same_features_on_every_scanner(line, kind):
    """Two neighboring tiles of this tissue correlate by 0.9973 at most; Ventana's have an edge in one."""
    reference, found = (
        read_features(line.folder / "out" / "features" / f"{IDS[one]}.h5") for one in (REFERENCE, kind)
    )
    rows = dict(zip(map(tuple, reference.coords.tolist()), reference.features.astype(float), strict=True))
    common = [
        (row.astype(float), rows[corner])
        for corner, row in zip(map(tuple, found.coords.tolist()), found.features, strict=True)
        if corner in rows
    ]
    assert len(common) >= 19
    if DRAWN[kind].is_lossless:
        assert all(np.array_equal(*pair) for pair in common)
    alike = [np.corrcoef(*pair)[0, 1] for pair in common]
    assert np.median(alike) > 0.998
    assert min(alike) > 0.98


def test_the_slides_do_hold_the_planted_word(line):
    """Where OpenSlide tells it: a word that is nowhere would prove nothing by its absence."""
    for kind, path in line.slides.items():
        with open_slide(path, background="metadata") as reader:
            assert PATIENT in str(dict(reader.properties)), kind


def test_no_planted_word_or_picture_is_found_in_what_was_written_or_said(line):
    assert leaks_below(line.folder / "out") == {}
    assert not is_leaking(f"{line.said}{line.as_json}".encode())
    told = json.loads(line.as_json)
    assert [one["slide_id"] for one in told] == list(IDS.values())
    assert {one["status"] for one in told} == {"ok"}


def test_a_missing_part_is_told_without_the_patients_name(tmp_path, capsys, monkeypatch):
    """The index was renamed, its parts were not; they are called as it says."""
    path = write_vms(tmp_path / "S1.vms", painted()[300:428, 250:506])
    text = path.read_text()
    for key, part in hamamatsu_parts(path).items():
        text = text.replace(f"{key}={part.name}\n", f"{key}={PATIENT}{part.name}\n")
    path.write_text(text)
    monkeypatch.chdir(tmp_path)
    assert run(["info", "S1.vms"]) == 1
    said = capsys.readouterr()
    assert "4 files that are not there (ImageFile, ImageFile(1,0), MapFile, MacroImage)" in said.out
    assert not is_leaking((said.out + said.err).encode())


def test_a_series_without_its_finest_file_is_used_and_told(tmp_path, capsys, monkeypatch):
    files = write_series(tmp_path, painted(), factors=(1, 2))
    files[0].unlink()
    row = SlideRow("S1", files[1], "", "S1", "", None, None, "")
    header = mask_slide(row, parse_settings({"tile": SETTINGS["tile"]}, where="test")).header
    assert (header["status"], header["slide_mpp"]) == ("ok", 1.0)
    assert header["reason"].startswith("its finest DICOM file was shrunk from a finer one")
    monkeypatch.chdir(tmp_path)
    assert run(["info", files[1].name, "--header", "--json", "--tile-mpp", "1"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["status"], told["reason"]) == ("ok", header["reason"])

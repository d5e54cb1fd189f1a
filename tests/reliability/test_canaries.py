"""G12: words planted wherever a scanner may write a patient's name are found in nothing that is written."""

import shutil
from pathlib import Path

import pytest
from leak_search import is_leaking, leaks_below, pictures_in, places_in
from planted_line import SETTINGS, Line, run_line, write_cohort
from planted_slides import PLACES, is_patterned, word
from snakemake_runs import run_snakemake
from viewed_runs import open_viewer

from wsi_kd.steps.known_slides import Sources
from wsi_kd.steps.verify_run import verify_run
from wsi_kd.steps.view import collect_viewed

OUTPUTS = ("out", "answers", "page", "trident", "answered", "distilled")
"""Folders that the line writes below its own."""
INSIDE_SLIDES = tuple(place for place in PLACES if place not in {"folder", "file name"})


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    return run_line(tmp_path_factory.mktemp("planted"))


def test_the_search_finds_every_word_and_pattern_in_the_slides_themselves(line: Line, tmp_path: Path) -> None:
    """What was not planted, or cannot be found, would prove nothing by its absence."""
    whole = tmp_path / line.planted[2].path.parent.name
    whole.mkdir()
    for one in line.planted[:3]:  # the broken ones have pages that no reader opens
        shutil.copy(one.path, whole)
    told = {place for places in leaks_below(tmp_path).values() for place in places}
    assert {"folder", "file name", "pattern", *INSIDE_SLIDES} - told <= {"openslide.barcode"}
    (barcoded,) = (one.path for one in line.planted if one.slide_id == "S1")
    assert is_leaking(barcoded.read_bytes())  # as base64, which names no place


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le"])
def test_the_search_knows_encodings(encoding: str) -> None:
    assert is_leaking(f"xx{word('Patient')}".upper().encode(encoding))
    assert not is_leaking("a canvas aryl".encode(encoding))


def test_nothing_planted_is_found_in_any_output(line: Line, record_property) -> None:
    leaks = {name: found for name in OUTPUTS if (found := leaks_below(line.folder / name))}
    files = sum(path.is_file() for name in OUTPUTS for path in (line.folder / name).rglob("*"))
    assert leaks == {}
    assert files > 80
    record_property("figure", f"G12: {len(PLACES)} planted words and a pattern, {files} files: 0 found")


def test_nothing_planted_is_said(line: Line) -> None:
    leaks = {
        command: places_in(text.encode()) for command, text in line.said.items() if is_leaking(text.encode())
    }
    assert leaks == {}


def test_the_run_of_planted_slides_is_whole(line: Line) -> None:
    """Every kind of file that the line writes is known to `wsi-kd verify`."""
    found = verify_run(line.folder / "out")
    assert found.faults == ()
    assert {"masks", "tiles", "features", "weights", "tables"} <= {check.what for check in found.checks}


def test_broken_slides_are_told_by_their_ids(line: Line) -> None:
    said = line.said["info slides.csv --json"]
    assert "S6" in said
    statuses = (line.folder / "out" / "status.csv").read_text()
    assert [row.split(",")[1] for row in statuses.splitlines()[-3:]] == [
        "unreadable",
        "damaged_tiles",
        "missing_mpp",
    ]


def test_a_shown_label_is_what_the_search_would_have_found(line: Line) -> None:
    client = open_viewer(collect_viewed(line.planted[4].path, Sources()), show_labels=True)
    for name in ("label", "macro"):
        path = line.folder / f"shown_{name}.jpg"
        path.write_bytes(client.get(f"/api/slides/0/associated/{name}.jpg").content)
        assert [is_patterned(pixels) for pixels in pictures_in(path, [])] == [True]


@pytest.mark.reliability
@pytest.mark.workflow
def test_nothing_planted_reaches_snakemake(tmp_path: Path, record_property) -> None:
    write_cohort(tmp_path)
    done = run_snakemake(tmp_path, settings=SETTINGS)
    assert done.code == 0, done.err
    assert not is_leaking(f"{done.out}{done.err}".encode())
    assert leaks_below(tmp_path / "out") == {}
    assert leaks_below(tmp_path / ".snakemake") == {}
    records = len(list((tmp_path / ".snakemake/metadata").rglob("*")))
    record_property("figure", f"G12: Snakemake's log and {records} records of its own: 0 found")
    shutil.rmtree(tmp_path)

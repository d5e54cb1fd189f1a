"""The reading benchmark: every way reads all tiles, the limit decodes what they touch, ratios are right."""

from pathlib import Path

import numpy as np
import openslide
import pytest

import read_tiles
import tile_readers
from large_slide import draw_large_slide
from read_tiles import Case, Timing
from tile_readers import Job


@pytest.fixture(scope="module")
def slide(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.svs"
    draw_large_slide(path, edge_px=512, piece_px=128, tile_px=64)
    return path


def job(slide, *, shift, tile_px=64, workers=1):
    return Job(slide, read_tiles.grid(slide, Case(slide, tile_px, shift, workers)), tile_px, workers)


def test_the_drawn_slide_is_what_scanners_write(slide):
    with openslide.OpenSlide(slide) as opened:
        assert opened.properties["openslide.vendor"] == "aperio"
        assert opened.properties["openslide.mpp-x"] == "0.5"
        assert opened.dimensions == (512, 512)
        pixels = np.asarray(opened.read_region((0, 0), 0, (512, 512)).convert("RGB")).astype(int)
    piece, mirrored = pixels[:128, :128], pixels[:128, 128:256]
    assert np.abs(piece - mirrored[:, ::-1]).mean() < 8  # mirrored before JPEG: alike, not equal
    assert np.array_equal(pixels[:256, :256], pixels[256:, 256:])
    assert pixels.std() > 20


@pytest.mark.parametrize(
    ("shift", "tile_px", "tiles"), [(0, 64, 64), (10, 64, 49), (0, 128, 16), (10, 100, 25)]
)
def test_the_grid_holds_the_tiles_that_lie_inside(slide, shift, tile_px, tiles):
    assert len(job(slide, shift=shift, tile_px=tile_px).coords) == tiles


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "name", ["ours", "ours, batches as embed", "openslide", "limit (simplejpeg)", "limit (imagecodecs)"]
)
def test_every_way_reads_all_tiles(slide, name, workers):
    with tile_readers.WAYS[name](job(slide, shift=0, workers=workers)) as read:
        assert read() == 64


def test_the_limit_decodes_each_stored_tile_that_is_touched_once(slide, monkeypatch):
    decoded = []
    shifted = job(slide, shift=10)
    with tile_readers.decode_limit(shifted, decode=decoded.append) as read:
        assert read() == 64  # 49 tiles of the job touch all 64 that are stored
    assert len(decoded) == 64
    assert len(tile_readers._touched(shifted._replace(coords=shifted.coords[:1]), 8, (64, 64))) == 4
    assert tile_readers._touched(shifted._replace(coords=shifted.coords[:1] + 54), 8, (64, 64)) == [9]


def test_ratios_are_those_of_one_turn():
    ours = [Timing(50.0, 60.0, 0.1), Timing(10.0, 60.0, 0.3), Timing(90.0, 30.0, 0.2)]
    limits = [Timing(100.0, 100.0, 0), Timing(10.0, 80.0, 0), Timing(100.0, 100.0, 0)]
    row = read_tiles._row("ours", ours, limits)
    assert row["tiles_per_second"] == 50
    assert row["of_limit"] == 0.9  # the median of 0.5, 1 and 0.9
    assert row["of_limit_cpu"] == 0.6  # of 0.6, 0.75 and 0.3
    assert row["open_seconds"] == 0.2


def test_a_way_that_is_not_installed_says_so(slide, monkeypatch):
    def absent(job):
        raise ModuleNotFoundError("No module named 'x'")

    ways = {"gone": absent, read_tiles.LIMIT: tile_readers.decode_limit}
    monkeypatch.setattr(read_tiles, "WAYS", ways)
    rows = read_tiles.measure(Case(slide, 64, 0, 1), turns=1, slow_tiles=4)
    assert rows[0] == {"way": "gone", "absent": "not installed (No module named 'x')"}
    assert rows[1]["of_limit"] == 1
    lines = read_tiles.table(rows).splitlines()
    assert lines[2].startswith("| gone | not installed")
    assert {line.count("|") for line in lines} == {len(read_tiles.COLUMNS) + 1}


def test_the_gain_of_two_workers_is_told(slide):
    def block(workers, rate):
        rows = [{"way": "ours", "tiles_per_second": rate}, {"way": "gone", "absent": "not installed"}]
        return {"case": ["a.svs", 256, 100, workers], "rows": rows}

    told = list(read_tiles.scaling([block(1, 100.0), block(2, 195.0)]))
    assert told == ["a.svs, 256 px, shifted by 100 px, 2 workers over one: ours 1.95"]


def test_the_pages_tables_hold_the_first_slides_cases_side_by_side():
    def block(slide, shift, workers, rate):
        ours = {"way": "ours", "tiles_per_second": rate, "of_limit": rate / 1000}
        return {"case": [slide, 256, shift, workers], "rows": [ours, {"way": "gone", "absent": "not here"}]}

    blocks = [
        block("a", 0, 1, 900.0),
        block("a", 0, 2, 1700.0),
        block("a", 100, 1, 800.0),
        block("b", 0, 1, 1.0),
    ]
    tables = read_tiles.page_tables(blocks)
    assert list(tables) == ["workers_1", "workers_2"]
    assert list(tables["workers_1"]["columns"])[1:] == [
        f"256 px, {how}: {what}" for how in ("aligned", "shifted") for what in ("tiles/s", "of the limit")
    ]
    assert tables["workers_1"]["rows"] == [
        ["ours", 900.0, 0.9, 800.0, 0.8],
        ["gone", None, None, None, None],
    ]
    assert tables["workers_2"]["rows"][0] == ["ours", 1700.0, 1.7]

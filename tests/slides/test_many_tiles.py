"""Tiles read a few at a time: pixels and damage of tiles read one by one, each stored tile decoded once."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import numpy as np
import pytest
from jpeg_tiffs import tissue, write_tiff

from wsi_kd.slides.pyramid import ReadPlan, read_tile
from wsi_kd.slides.reader import open_slide
from wsi_kd.slides.tile_source import open_tile_source

WIDTH, HEIGHT = 600, 410


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    return write_tiff(tmp_path_factory.mktemp("many") / "s.tif", tissue(WIDTH, HEIGHT), subsampling="420")


def plan_of(read_px, tile_px):
    return ReadPlan(0, read_px, tile_px, float(read_px), float(read_px))


def corners_of(step, *, start):
    columns, rows = np.arange(start, WIDTH, step), np.arange(start, HEIGHT, step)
    return [(int(x), int(y)) for y in rows for x in columns]


@contextmanager
def opened(path, plan, corners):
    with (
        open_slide(path, background="metadata") as reader,
        closing(open_tile_source(reader, plan, np.array(corners))) as source,
    ):
        yield source


@pytest.mark.parametrize(
    ("read_px", "tile_px", "start", "step"),
    [
        (64, 64, 0, 64),
        (64, 64, 17, 64),
        (128, 128, 0, 128),
        (128, 128, 21, 128),
        (90, 64, 5, 90),
        (64, 64, -20, 50),
    ],
)
@pytest.mark.parametrize("workers", [1, 3])
def test_many_tiles_at_once_are_those_of_one_by_one(slide, decodes, workers, read_px, tile_px, start, step):
    plan, corners = plan_of(read_px, tile_px), corners_of(step, start=start)
    out = np.zeros((len(corners), tile_px, tile_px, 3), np.uint8)
    with (
        open_slide(slide, background="metadata") as reader,
        closing(open_tile_source(reader, plan, np.array(corners))) as source,
    ):
        decodes.clear()  # the tiles that opening compared
        parts = [slice(at, at + 5) for at in range(0, len(corners), 5)]
        with ThreadPoolExecutor(workers) as pool:
            missed = list(pool.map(lambda part: source.read_many(corners[part], out[part]), parts))
        assert missed == [{}] * len(parts)
        assert set(decodes.values()) == {1}
        assert not source._decoded._slots
        for (x, y), pixels in zip(corners, out, strict=True):
            assert np.array_equal(pixels, read_tile(reader, x_level0_px=x, y_level0_px=y, plan=plan))


@pytest.mark.parametrize(("start", "needing"), [(0, 1), (20, 4)])
def test_of_many_tiles_the_damaged_ones_are_named_by_their_place(tmp_path, start, needing):
    path = write_tiff(tmp_path / "s.tif", tissue(WIDTH, HEIGHT), subsampling="420")
    plan, corners = plan_of(64, 64), corners_of(64, start=start)
    expected, out = (np.zeros((len(corners), 64, 64, 3), np.uint8) for _ in range(2))
    with opened(path, plan, corners) as source:
        assert source.read_many(corners, expected) == {}
        grid = source._stored.grid
        index = grid.columns + 1  # column 1, row 1
        at, size = int(grid.offsets[index]), int(grid.sizes[index])
    content = bytearray(path.read_bytes())
    content[at : at + size] = bytes(size)
    path.write_bytes(content)
    with opened(path, plan, corners) as source:
        problems = source.read_many(corners, out)
    touched = [{x // 64, (x + 63) // 64} | {10 + y // 64, 10 + (y + 63) // 64} for x, y in corners]
    assert sorted(problems) == [number for number, tiles in enumerate(touched) if {1, 11} <= tiles]
    assert len(problems) == needing
    assert all("column 1, row 1" in problem.reason for problem in problems.values())
    whole = [number for number in range(len(corners)) if number not in problems]
    assert np.array_equal(out[whole], expected[whole])

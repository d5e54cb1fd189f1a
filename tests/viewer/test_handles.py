"""Open slides are few, whatever is asked for; encoded tiles are bounded in bytes."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiff_files

from wsi_kd.core.errors import SlideProblem
from wsi_kd.slides.reader import open_slide
from wsi_kd.viewer.handles import Handles
from wsi_kd.viewer.opened import OpenSlide
from wsi_kd.viewer.tile_cache import ENTRY_BYTES, TileCache

OPENER = partial(OpenSlide, background="metadata", color="as_stored")


@pytest.fixture
def noted():
    """An opener of slides, and those of them that nobody has closed yet."""
    held = []

    class Noted(OpenSlide):
        def __init__(self, path: Path) -> None:
            super().__init__(path, background="metadata", color="as_stored")
            held.append(self)

        def close(self) -> None:
            held.remove(self)
            super().close()

    return Noted, held


def tiny(folder: Path, name: str, value: int = 100) -> Path:
    pixels = np.full((64, 64, 3), value, np.uint8)
    return tiff_files.write(folder / name, pixels, tile=(64, 64), compression="deflate")


def first_pixel(opened) -> int:
    return int(tiff_files.read(opened._reader, size=(1, 1))[0, 0, 0])


def test_many_slides_leave_few_open(tmp_path: Path, noted) -> None:
    first = tiny(tmp_path, "0.tif")
    paths = [first, *(tmp_path / f"{number}.tif" for number in range(1, 120))]
    for path in paths[1:]:
        path.hardlink_to(first)
    opener, held = noted
    handles = Handles(opener, limit=4)
    for path in paths:
        with handles.lend(path) as opened:
            assert first_pixel(opened) == 100
        assert 0 < len(held) <= 5  # one is in use
    assert len(held) <= 4
    handles.close()
    assert held == []


def test_a_slide_in_use_stays_open_though_others_push_it_out(tmp_path: Path, noted) -> None:
    paths = [tiny(tmp_path, f"{number}.tif", value=number) for number in range(3)]
    opener, held = noted
    handles = Handles(opener, limit=1)
    with handles.lend(paths[0]) as opened:
        for path in paths[1:]:
            with handles.lend(path):
                pass
        assert first_pixel(opened) == 0
        assert opened in held
    handles.close()
    assert held == []


def test_a_slide_that_two_use_stays_open_until_both_are_done(tmp_path: Path, noted) -> None:
    path, (opener, held) = tiny(tmp_path, "a.tif", value=7), noted
    handles = Handles(opener)
    with handles.lend(path) as opened:
        with handles.lend(path) as same:
            assert same is opened
            handles.close()
        assert first_pixel(opened) == 7
        assert held == [opened]
    assert held == []


def test_a_slide_whose_pyramid_cannot_be_laid_is_closed(tmp_path: Path, monkeypatch) -> None:
    closed = []

    def fail(reader) -> None:
        monkeypatch.setattr(type(reader), "close", lambda _: closed.append(1))
        raise ZeroDivisionError

    monkeypatch.setattr("wsi_kd.viewer.opened.deep_zoom", fail)
    path = tiny(tmp_path, "a.tif")
    with pytest.raises(SlideProblem, match="opening failed"), Handles(OPENER).lend(path):
        pass
    assert closed == [1]


@pytest.fixture
def opened_names(monkeypatch):
    """Names of the slides that are opened from now on, in order."""
    names = []

    def open_counted(path, **options):
        names.append(path.name)
        return open_slide(path, **options)

    monkeypatch.setattr("wsi_kd.viewer.opened.open_slide", open_counted)
    return names


def test_the_slide_that_was_not_asked_for_longest_is_closed_first(tmp_path: Path, opened_names) -> None:
    handles = Handles(OPENER, limit=2)
    paths = {name: tiny(tmp_path, name) for name in "abc"}
    for name in "abacaba":
        with handles.lend(paths[name]) as opened:
            assert first_pixel(opened) == 100
    handles.close()
    assert opened_names == ["a", "b", "c", "b"]


def test_threads_share_one_handle(tmp_path: Path, opened_names, noted) -> None:
    """A page asks for many tiles at once: the slide is opened once, not by each of them."""
    opener, held = noted
    path, handles = tiny(tmp_path, "a.tif"), Handles(opener)

    def ask(_: int) -> int:
        with handles.lend(path) as opened:
            return first_pixel(opened)

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, range(200))) == {100}
    assert (len(held), opened_names) == (1, ["a.tif"])
    handles.close()
    assert held == []


def test_a_file_that_was_replaced_is_opened_anew(tmp_path: Path) -> None:
    path, other = tiny(tmp_path, "a.tif", value=10), tiny(tmp_path, "b.tif", value=200)
    handles = Handles(OPENER)
    with handles.lend(path) as opened:
        assert first_pixel(opened) == 10
    shutil.move(other, path)
    with handles.lend(path) as opened:
        assert first_pixel(opened) == 200
    path.unlink()
    with pytest.raises(SlideProblem, match="is it still there"), handles.lend(path):
        pass
    handles.close()


def test_the_cache_is_bounded_in_bytes_and_drops_the_oldest() -> None:
    cache = TileCache(max_bytes=3 * (1000 + ENTRY_BYTES))
    for key in "abc":
        cache.put(key, bytes(1000))
    assert cache.get("a") is not None
    cache.put("d", bytes(1000))
    assert cache.get("b") is None
    assert cache.get("a") is not None
    assert cache.size_bytes == 3 * (1000 + ENTRY_BYTES)
    cache.put("d", bytes(10))
    assert cache.size_bytes == 2 * (1000 + ENTRY_BYTES) + 10 + ENTRY_BYTES
    cache.put("huge", bytes(10_000))
    assert cache.get("huge") is None
    assert cache.size_bytes <= 3 * (1000 + ENTRY_BYTES)

"""The TIFF reader's limits: what it refuses by name, how little it decodes, who may share it."""

import copy
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from tiff_files import HEIGHT, TILE, draw_pixels, read, write

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.slides import segments
from wsi_kd.slides.reader import open_slide
from wsi_kd.slides.tiff_reader import open_tiff


@pytest.fixture(scope="module")
def drawn():
    return draw_pixels()


STACKS = {
    "channels": (
        np.zeros((5, 90, 80), np.uint8),
        {"axes": "CYX", "Channel": {"Name": list("abcde")}},
        "empty",
    ),
    "focal planes": (np.zeros((4, 90, 80, 3), np.uint8), {"axes": "ZYXS"}, "unreadable"),
    "time points": (np.zeros((4, 90, 80, 3), np.uint8), {"axes": "TYXS"}, "unreadable"),
}


@pytest.mark.parametrize("name", STACKS)
def test_stacks_end_with_a_status_that_names_them(tmp_path, name):
    pixels, metadata, status = STACKS[name]
    path = tmp_path / "slide.ome.tif"
    photometric = "rgb" if pixels.ndim == 4 else "minisblack"
    tifffile.imwrite(path, pixels, photometric=photometric, metadata=metadata)
    with pytest.raises(SlideProblem, match=rf"{len(pixels)} {name}") as problem:
        open_slide(path, background="metadata")
    assert problem.value.status == SlideStatus(status)


def test_a_plain_stack_of_gray_pages_is_no_brightfield_image(tmp_path, drawn):
    path = tmp_path / "slide.tif"
    with tifffile.TiffWriter(path) as tiff:
        for channel in range(3):
            tiff.write(drawn[..., channel], photometric="minisblack", metadata=None)
    with pytest.raises(SlideProblem, match="3 gray pages of one size") as problem:
        open_slide(path, background="metadata")
    assert problem.value.status == SlideStatus.EMPTY


@pytest.mark.parametrize(
    ("pixels", "options", "told"),
    [
        (np.zeros((90, 80, 3), np.float32), {}, "float32"),
        (np.zeros((90, 80, 3), np.uint8), {"extratags": [(274, 3, 1, 6, True)]}, "orientation tag 6"),
        (np.zeros((90, 80, 4), np.uint8), {"photometric": "separated"}, "SEPARATED"),
        (np.zeros((90, 80, 3), np.uint8), {"photometric": "cielab"}, "CIELAB"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path, pixels, options, told):
    path = write(tmp_path / "slide.tif", pixels, **options)
    with pytest.raises(SlideProblem, match=told) as problem:
        open_slide(path, background="metadata")
    assert problem.value.status == SlideStatus.UNREADABLE


def test_orientation_is_refused_in_tiles_that_openslide_would_read_as_they_lie(tmp_path, drawn):
    path = write(tmp_path / "slide.tif", drawn, tile=(TILE, TILE), extratags=[(274, 3, 1, 3, True)])
    with pytest.raises(SlideProblem, match="orientation tag 3"):
        open_slide(path, background="metadata")


def test_pieces_too_large_for_memory_are_refused_before_they_are_decoded(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr("wsi_kd.slides.tiff_pages.MAX_SEGMENT_BYTES", 10_000)
    path = write(tmp_path / "slide.tif", drawn, rowsperstrip=HEIGHT, compression="deflate")
    with pytest.raises(SlideProblem, match="pieces of 330x270 px"):
        open_slide(path, background="metadata")
    path = write(tmp_path / "raw.tif", drawn, rowsperstrip=HEIGHT)  # rows can be read alone
    monkeypatch.setattr("wsi_kd.slides.tiff_pages.RAW_BYTES", 5_000)
    with open_slide(path, background="metadata") as reader:
        assert np.array_equal(read(reader, 20, 100, size=(90, 70)), drawn[100:170, 20:110])


def test_only_the_pieces_a_region_touches_are_decoded_and_neighbors_share_them(tmp_path, drawn, monkeypatch):
    path = write(tmp_path / "slide.tif", drawn, tile=(TILE, TILE), compression="deflate")
    with open_tiff(path, background="metadata") as reader:
        decoded = []
        source = reader._source
        original = source.read_segment

        def counting(level, *, column, row):
            decoded.append((column, row))
            return original(level, column=column, row=row)

        monkeypatch.setattr(source, "read_segment", counting)
        read(reader, 70, 70, size=(50, 50))
        assert decoded == [(1, 1)]
        read(reader, 100, 70, size=(50, 50))
        assert decoded == [(1, 1), (2, 1)]


def test_the_cache_gives_up_the_oldest_piece(monkeypatch):
    monkeypatch.setattr(segments, "MAX_CACHE_BYTES", 1000)
    cache = segments.SegmentCache()
    cache.capacity_bytes = 300
    made = []

    def fetch(key, edge=10):
        def make():
            made.append(key)
            return np.full((edge, edge, 1), 7, np.uint8)

        return cache.fetch(key, make)

    for key in "abcad":  # a is used once more, so b is the oldest when d comes
        fetch(key)
    assert made == list("abcd")
    fetch("a")
    fetch("b")
    assert made == list("abcdb")
    cache.make_room_for(10**9)
    assert cache.capacity_bytes == 1000
    assert fetch("large", edge=40).nbytes == 1600
    fetch("large")
    assert made == [*"abcdb", "large"]
    fetch("a")
    assert made == [*"abcdb", "large", "a"]


def test_threads_that_need_one_piece_decode_it_once_and_a_failure_is_not_kept():
    cache, made, gate = segments.SegmentCache(), [], threading.Barrier(4)

    def make():
        made.append(1)
        time.sleep(0.05)
        if len(made) == 1:
            raise ValueError("damaged")
        return np.zeros((1, 1, 3), np.uint8)

    def ask(_):
        gate.wait(60)
        try:
            return cache.fetch("key", make)
        except ValueError:
            return None

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(4)))
    assert len(made) == 2
    assert sum(piece is None for piece in found) == 1


def test_copies_for_other_threads_share_what_is_decoded(tmp_path, drawn, monkeypatch):
    path = write(tmp_path / "slide.tif", drawn, tile=(TILE, TILE), compression="deflate")
    with open_tiff(path, background="metadata") as reader, copy.copy(reader) as other:
        assert np.array_equal(read(reader), drawn)
        assert other._source is not reader._source
        decoded = []
        monkeypatch.setattr(other._source, "read_segment", lambda *_, **place: decoded.append(place))
        assert np.array_equal(read(other), drawn)
        assert decoded == []


def test_threads_pickles_and_forked_children_read_the_same(tmp_path, drawn):
    path = write(tmp_path / "slide.tif", drawn, tile=(TILE, TILE), compression="deflate")
    with open_tiff(path, background="metadata") as reader:
        with ThreadPoolExecutor(4) as pool:
            regions = list(pool.map(lambda x: read(reader, x, 30, size=(60, 60)), range(0, 240, 8)))
        for x, region in zip(range(0, 240, 8), regions, strict=True):
            assert np.array_equal(region, drawn[30:90, x : x + 60])
        with pickle.loads(pickle.dumps(reader)) as other:
            assert np.array_equal(read(other), drawn)
        handle = reader._source
        reader._process = os.getpid() + 1  # as a child finds it
        assert np.array_equal(read(reader), drawn)
        assert reader._source is not handle
        handle.close()

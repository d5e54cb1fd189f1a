import threading
import tracemalloc
from functools import partial

import cv2
import numpy as np
import pytest

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.features.embed import embed_tiles
from wsi_kd.features.embed_line import READ_TILES, UNITS_AHEAD
from wsi_kd.features.feature_rows import MOVED_TILES, FeatureRows
from wsi_kd.slides.reader_tiles import read_each

EDGE = 8


class PositionEncoder:
    """Features are the tile's own position, which the fake slide paints into it."""

    name = "position"
    feature_dim = 2
    input_px = None
    weights_hash = ""
    feature_names = ()

    def __init__(self, *, encodes_in_threads):
        self.settings = {}
        self.encodes_in_threads = encodes_in_threads
        self.batches = []

    def __call__(self, tiles):
        self.batches.append(len(tiles))
        return tiles[:, 0, 0, :2].astype(np.float32)


class FakeSlide:
    """A slide whose tile at x, y is painted (x, y, 0); some positions are damaged."""

    def __init__(self, damaged=()):
        self.damaged = set(damaged)
        self.places = []
        self.threads = set()

    def read(self, x, y, out):
        self.threads.add(threading.get_ident())
        self.places.append((x, y))
        if x in self.damaged:
            raise SlideProblem(SlideStatus.UNREADABLE, f"damaged at {x}")
        out[...] = (x, y, 0)


def positions(tiles):
    return np.stack([np.arange(tiles), np.zeros(tiles, np.int64)], axis=1)


def embed(slide, coords, encoder, *, batch_size, workers, **others):
    return embed_tiles(
        partial(read_each, slide.read),
        coords,
        encoder,
        tile_px=EDGE,
        batch_size=batch_size,
        workers=workers,
        **others,
    )


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("in_threads", [False, True])
def test_order_is_kept_and_damaged_tiles_are_left_out(workers, in_threads):
    coords, told = positions(100), []
    encoder = PositionEncoder(encodes_in_threads=in_threads)
    slide = FakeSlide({0, 41, 99})
    found = embed(slide, coords, encoder, batch_size=9, workers=workers, on_tiles=told.append)
    assert np.flatnonzero(~found.kept).tolist() == [0, 41, 99]
    assert np.array_equal(found.features, coords[found.kept].astype(np.float32))
    assert found.damaged == ("damaged at 0", "damaged at 41", "damaged at 99")
    assert sum(told) == 100
    assert sorted(slide.places) == [tuple(place) for place in coords.tolist()]
    assert (threading.get_ident() in slide.threads) == (workers == 0)


@pytest.mark.parametrize("in_threads", [False, True])
def test_tiles_in_any_order_are_read_row_by_row_and_given_back_in_theirs(in_threads):
    rows, columns = np.divmod(np.random.default_rng(0).permutation(84), 12)
    coords, slide = np.stack([columns, rows], axis=1), FakeSlide({5})
    encoder = PositionEncoder(encodes_in_threads=in_threads)
    found = embed(slide, coords, encoder, batch_size=10, workers=0)
    assert slide.places == [(column, row) for row in range(7) for column in range(12)]
    assert np.array_equal(found.kept, columns != 5)
    assert np.array_equal(found.features, coords[found.kept].astype(np.float32))
    assert found.damaged == ("damaged at 5",) * 7


def test_batches_do_not_depend_on_the_workers():
    sizes = []
    for workers in (0, 1, 4):
        encoder = PositionEncoder(encodes_in_threads=False)
        embed(FakeSlide({5, 50}), positions(70), encoder, batch_size=16, workers=workers)
        sizes.append(encoder.batches)
    assert sizes == [[15, 16, 16, 15, 6]] * 3


def test_a_batch_without_a_readable_tile_is_left_out():
    encoder = PositionEncoder(encodes_in_threads=False)
    found = embed(FakeSlide(range(4, 8)), positions(10), encoder, batch_size=4, workers=2)
    assert encoder.batches == [4, 2]
    assert found.features[:, 0].tolist() == [0, 1, 2, 3, 8, 9]


def test_a_short_slide_uses_all_threads():
    together = threading.Barrier(3, timeout=60)

    class Waiting(FakeSlide):
        def read(self, x, y, out):
            together.wait()
            super().read(x, y, out)

    slide = Waiting()
    embed(slide, positions(6), PositionEncoder(encodes_in_threads=False), batch_size=64, workers=3)
    assert len(slide.threads) == 3


def test_reading_ahead_is_bounded():
    slide, workers, most_ahead = FakeSlide(), 2, 0

    class Slow(PositionEncoder):
        def __call__(self, tiles):
            nonlocal most_ahead
            self.done = getattr(self, "done", 0) + len(tiles)
            threading.Event().wait(0.01)
            most_ahead = max(most_ahead, len(slide.places) - self.done)
            return super().__call__(tiles)

    embed(slide, positions(250), Slow(encodes_in_threads=False), batch_size=READ_TILES, workers=workers)
    assert 0 < most_ahead <= (workers * UNITS_AHEAD + 1) * READ_TILES


@pytest.mark.parametrize("workers", [0, 2])
def test_no_tiles_at_all(workers):
    encoder = PositionEncoder(encodes_in_threads=False)
    found = embed(FakeSlide(), positions(0), encoder, batch_size=4, workers=workers)
    assert found.features.shape == (0, 2)
    assert found.kept.shape == (0,)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unexpected_failure_of_reading_is_told_and_no_thread_stays(workers):
    class Broken(FakeSlide):
        def read(self, x, y, out):
            raise MemoryError

    before, encoder = set(threading.enumerate()), PositionEncoder(encodes_in_threads=False)
    with pytest.raises(MemoryError):
        embed(Broken(), positions(40), encoder, batch_size=4, workers=workers)
    assert set(threading.enumerate()) <= before


def test_an_encoder_that_fails_ends_the_threads_and_restores_opencv():
    threads, before = cv2.getNumThreads(), set(threading.enumerate())

    class Failing(PositionEncoder):
        def __call__(self, tiles):
            raise MemoryError

    with pytest.raises(MemoryError):
        embed(FakeSlide(), positions(200), Failing(encodes_in_threads=False), batch_size=4, workers=2)
    assert cv2.getNumThreads() == threads
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("in_threads", [False, True])
def test_arrays_are_used_again_even_if_features_lie_in_them(workers, in_threads):
    class Same(PositionEncoder):
        def __call__(self, tiles):
            self.batches.append(tiles.ctypes.data)
            return super().__call__(tiles)

    class View(Same):
        def __call__(self, tiles):
            super().__call__(tiles)
            return tiles[:, 0, 0, :2]

    coords = positions(200)
    for kind in (Same, View):
        encoder = kind(encodes_in_threads=in_threads)
        found = embed(FakeSlide({7}), coords, encoder, batch_size=8, workers=workers)
        assert np.array_equal(found.features, coords[found.kept].astype(found.features.dtype))
        assert len(set(encoder.batches)) < len(encoder.batches) / 2


@pytest.mark.parametrize("in_threads", [False, True])
def test_features_are_rounded_to_the_stored_type_and_pixels_are_not(in_threads):
    class Third(PositionEncoder):
        def __call__(self, tiles):
            return super().__call__(tiles) / np.float32(3)

    class Plain(PositionEncoder):
        def __call__(self, tiles):
            return tiles[:, 0, 0, :2]

    coords, last = positions(90), {"batch_size": 8, "workers": 0, "dtype": "float16"}
    found = embed(FakeSlide({7}), coords, Third(encodes_in_threads=in_threads), **last)
    assert found.features.dtype == np.float16
    exact = coords[found.kept].astype(np.float32) / np.float32(3)
    assert np.array_equal(found.features, exact.astype(np.float16))
    assert found.largest == float(np.float32(89) / np.float32(3))
    found = embed(FakeSlide(), coords, Plain(encodes_in_threads=in_threads), **last)
    assert (found.features.dtype, found.largest) == (np.uint8, 0.0)
    assert embed(FakeSlide({0}), coords[:1], Third(encodes_in_threads=in_threads), **last).features.shape == (
        0,
        2,
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e5])
@pytest.mark.parametrize("place", [0, 50, 89])
def test_features_that_cannot_be_stored_are_told(bad, place):
    class Bad(PositionEncoder):
        def __call__(self, tiles):
            features = super().__call__(tiles)
            features[features[:, 0] == place, 1] = bad
            return features

    found = embed(
        FakeSlide(),
        positions(90),
        Bad(encodes_in_threads=False),
        batch_size=8,
        workers=0,
        dtype="float16",
    )
    assert found.largest == pytest.approx(abs(bad), nan_ok=True)


def test_features_lie_once_in_memory_and_left_out_rows_close_up():
    """Tiles in any order, some damaged, over several blocks of rows that move."""
    tiles, width = 12 * MOVED_TILES + 11, 64
    rng = np.random.default_rng(0)
    kept, values = rng.random(tiles) < 0.8, rng.normal(size=(tiles, width)).astype(np.float32)
    order = rng.permutation(tiles)
    tracemalloc.start()
    try:
        rows = FeatureRows(tiles, None)
        for start in range(0, tiles, 50):
            places = order[start : start + 50]
            places = places[kept[places]]
            rows.put(places, values[places])
        joined = rows.joined(kept, width)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.array_equal(joined, values[kept])
    assert most < 1.5 * values.nbytes

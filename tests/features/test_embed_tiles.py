import threading
from contextlib import contextmanager

import cv2
import numpy as np
import pytest

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.features.embed import READ_TILES, UNITS_AHEAD, embed_tiles


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
        self.opened = self.closed = self.read = 0
        self.threads = set()

    @contextmanager
    def open(self):
        self.opened += 1
        owner = threading.get_ident()

        def read(x, y):
            assert threading.get_ident() == owner
            self.threads.add(owner)
            self.read += 1
            if x in self.damaged:
                raise SlideProblem(SlideStatus.UNREADABLE, f"damaged at {x}")
            return np.full((8, 8, 3), (x, y, 0), np.uint8)

        try:
            yield read
        finally:
            self.closed += 1


def positions(tiles):
    return np.stack([np.arange(tiles), np.arange(tiles) % 7], axis=1)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("in_threads", [False, True])
def test_order_is_kept_and_damaged_tiles_are_left_out(workers, in_threads):
    coords, slide = positions(100), FakeSlide(damaged={0, 41, 99})
    told = []
    found = embed_tiles(
        slide.open,
        coords,
        PositionEncoder(encodes_in_threads=in_threads),
        batch_size=9,
        workers=workers,
        on_tiles=told.append,
    )
    assert np.flatnonzero(~found.kept).tolist() == [0, 41, 99]
    assert np.array_equal(found.features, coords[found.kept].astype(np.float32))
    assert found.damaged == ("damaged at 0", "damaged at 41", "damaged at 99")
    assert sum(told) == 100
    assert slide.opened == slide.closed <= max(workers, 1)


def test_batches_do_not_depend_on_the_workers():
    sizes = []
    for workers in (0, 1, 4):
        encoder = PositionEncoder(encodes_in_threads=False)
        embed_tiles(FakeSlide({5, 50}).open, positions(70), encoder, batch_size=16, workers=workers)
        sizes.append(encoder.batches)
    assert sizes == [[16, 16, 16, 16, 4]] * 3


def test_a_short_slide_uses_all_threads():
    together = threading.Barrier(3, timeout=10)
    slide = FakeSlide()

    @contextmanager
    def open_together():
        with slide.open() as read:

            def wait_and_read(x, y):
                together.wait()
                return read(x, y)

            yield wait_and_read

    embed_tiles(
        open_together, positions(6), PositionEncoder(encodes_in_threads=False), batch_size=64, workers=3
    )
    assert len(slide.threads) == 3


def test_reading_ahead_is_bounded():
    slide, workers, most_ahead = FakeSlide(), 2, 0

    class Slow(PositionEncoder):
        def __call__(self, tiles):
            nonlocal most_ahead
            self.done = getattr(self, "done", 0) + len(tiles)
            threading.Event().wait(0.01)
            most_ahead = max(most_ahead, slide.read - self.done)
            return super().__call__(tiles)

    embed_tiles(
        slide.open, positions(250), Slow(encodes_in_threads=False), batch_size=READ_TILES, workers=workers
    )
    assert 0 < most_ahead <= (workers * UNITS_AHEAD + 1) * READ_TILES


@pytest.mark.parametrize("workers", [0, 2])
def test_no_tiles_at_all(workers):
    found = embed_tiles(
        FakeSlide().open,
        positions(0),
        PositionEncoder(encodes_in_threads=False),
        batch_size=4,
        workers=workers,
    )
    assert found.features.shape == (0, 2)
    assert found.kept.shape == (0,)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_slide_that_does_not_open_is_told_and_no_thread_stays(workers):
    @contextmanager
    def broken():
        raise SlideProblem(SlideStatus.UNREADABLE, "no such file")
        yield

    before = threading.active_count()
    with pytest.raises(SlideProblem, match="no such file"):
        embed_tiles(
            broken, positions(40), PositionEncoder(encodes_in_threads=False), batch_size=4, workers=workers
        )
    assert threading.active_count() == before


def test_an_encoder_that_fails_closes_the_slide_and_restores_opencv():
    slide, threads = FakeSlide(), cv2.getNumThreads()

    class Failing(PositionEncoder):
        def __call__(self, tiles):
            raise MemoryError

    with pytest.raises(MemoryError):
        embed_tiles(slide.open, positions(200), Failing(encodes_in_threads=False), batch_size=4, workers=2)
    assert slide.opened == slide.closed > 0
    assert cv2.getNumThreads() == threads

"""Slides of a job in one line: batches span them, each keeps its own rows, and ends as it would alone."""

import threading
from contextlib import closing, contextmanager
from functools import partial

import numpy as np
import pytest

from wsi_kd.core.errors import BadInput, SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.features.embed import embed_slides
from wsi_kd.features.embed_line import BEGUN_BATCHES, OPENED_AHEAD, UNITS_AHEAD
from wsi_kd.features.tile_units import OpenedTiles, SlideTiles
from wsi_kd.slides.reader_tiles import read_each

EDGE = 8


class Slide:
    """Its tile at x, y is painted (x, number of the slide, 0)."""

    def __init__(self, number, tiles, *, damaged=(), fails=None, edge=EDGE):
        self.number, self.tiles, self.damaged, self.fails, self.edge = (
            number,
            tiles,
            set(damaged),
            fails,
            edge,
        )
        self.is_open, self.threads, self.most_open = 0, set(), 0

    def read(self, x, y, out):
        assert self.is_open
        self.threads.add(threading.get_ident())
        if x in self.damaged:
            raise SlideProblem(SlideStatus.UNREADABLE, f"damaged {x}")
        out[...] = (x, self.number, 0)

    @contextmanager
    def opening(self):
        if self.fails is not None:
            raise self.fails
        self.is_open += 1
        yield OpenedTiles(partial(read_each, self.read))
        self.is_open -= 1

    def __call__(self):
        coords = np.stack([np.arange(self.tiles), np.zeros(self.tiles, np.int64)], axis=1)
        return SlideTiles(coords, self.edge, self.opening)


class Encoder:
    """Features of a tile are the colors of its corner; notes what each batch held."""

    name, feature_dim, input_px, weights_hash, feature_names = "corner", 2, None, "", ()
    settings = {}  # noqa: RUF012  # never written to
    encodes_in_threads = False

    def __init__(self):
        self.batches = []

    def __call__(self, tiles):
        self.batches.append([*sorted(set(tiles[:, 0, 0, 1].tolist())), len(tiles)])
        return tiles[:, 0, 0, :2].astype(np.float32)


class Later(Encoder):
    """A `PreparedEncoder` that looks at a batch only when its result is asked for, as a GPU may."""

    prepared_px, as_read_px = 4, None

    def __init__(self):
        super().__init__()
        self.preparing, self.begun, self.most_begun, self.arrays = set(), 0, 0, 0

    def batch_array(self, tiles):
        self.arrays += 1
        return np.zeros((tiles, 4, 4, 3), np.uint8)

    def prepare(self, tiles, out):
        self.preparing.add(threading.get_ident())
        out[...] = tiles[:, :4, :4]

    def begin(self, batch, count):
        self.begun += 1
        self.most_begun = max(self.most_begun, self.begun)

        def end():
            self.begun -= 1
            return self(batch[:count])

        return end


def embedded(slides, encoder, *, batch_size=8, workers=2):
    found = embed_slides([slide() for slide in slides], encoder, batch_size=batch_size, workers=workers)
    with closing(found):
        return list(found)


def assert_own_rows(slide, found):
    places = [x for x in range(slide.tiles) if x not in slide.damaged]
    assert found.features.tolist() == [[x, slide.number] for x in places]
    assert np.flatnonzero(~found.kept).tolist() == sorted(slide.damaged)
    assert found.damaged == tuple(f"damaged {x}" for x in sorted(slide.damaged))


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("kind", [Encoder, Later])
def test_batches_span_slides_and_each_slide_keeps_its_rows(workers, kind):
    slides = [Slide(0, 10, damaged={3}), Slide(1, 5), Slide(2, 20, damaged={0, 19}), Slide(3, 1)]
    encoder = kind()
    found = embedded(slides, encoder, workers=workers)
    for slide, one in zip(slides, found, strict=True):
        assert_own_rows(slide, one)
        assert slide.is_open == 0
    # 36 tiles in batches of 8 and a rest of 4: which slides' tiles were in each, and how many were kept
    assert encoder.batches == [[0, 7], [0, 1, 7], [2, 8], [2, 8], [2, 3, 3]]


def test_a_prepared_encoder_is_not_waited_for_and_its_batch_stays_as_it_is():
    encoder, slides = Later(), [Slide(number, 90) for number in range(4)]
    for slide, one in zip(slides, embedded(slides, encoder, workers=2), strict=True):
        assert_own_rows(slide, one)
    assert encoder.most_begun == BEGUN_BATCHES
    assert encoder.begun == 0
    # of 45 batches: those of the units ahead (of eight tiles each), the ones begun, and one more
    assert encoder.arrays <= 2 * UNITS_AHEAD + BEGUN_BATCHES + 1
    assert threading.get_ident() not in encoder.preparing


def test_threads_stay_from_slide_to_slide():
    before, slides = set(threading.enumerate()), [Slide(number, 40) for number in range(12)]
    embedded(slides, Encoder(), workers=2)
    assert len(set.union(*(slide.threads for slide in slides))) == 2
    assert set(threading.enumerate()) <= before


def test_few_slides_are_open_at_once():
    slides, most_open = [Slide(number, 20) for number in range(10)], []

    class Looking(Encoder):
        def __call__(self, tiles):
            most_open.append(sum(slide.is_open for slide in slides))
            return super().__call__(tiles)

    embedded(slides, Looking(), batch_size=4)
    # those whose tiles are read, the next, and the ones whose tiles were read ahead of the encoder
    assert max(most_open) <= 2 + OPENED_AHEAD + 2 * 3 * 16 // 20
    assert min(most_open) >= 0


def test_a_slide_that_cannot_be_opened_leaves_the_others_alone():
    gone = SlideProblem(SlideStatus.UNREADABLE, "gone")
    slides = [Slide(0, 10), Slide(1, 7, fails=gone), Slide(2, 9), Slide(3, 3, fails=gone)]
    found = embedded(slides, Encoder())
    assert [one if isinstance(one, SlideProblem) else None for one in found] == [None, gone, None, gone]
    assert_own_rows(slides[0], found[0])
    assert_own_rows(slides[2], found[2])


@pytest.mark.parametrize("workers", [0, 2])
def test_what_refuses_a_slide_is_raised_after_the_slides_before_it(workers):
    slides = [Slide(0, 10), Slide(1, 5), Slide(2, 4, fails=BadInput("another file")), Slide(3, 90)]
    done = []

    def all_of_them():
        found = embed_slides([slide() for slide in slides], Encoder(), batch_size=64, workers=workers)
        with closing(found):
            for slide, one in zip(slides, found, strict=False):
                assert_own_rows(slide, one)
                done.append(slide.number)

    with pytest.raises(BadInput, match="another file"):
        all_of_them()
    assert done == [0, 1]
    assert [slide.is_open for slide in slides] == [0] * 4


def test_a_line_that_is_left_closes_slides_and_ends_threads():
    before, slides = set(threading.enumerate()), [Slide(number, 50) for number in range(5)]
    found = embed_slides([slide() for slide in slides], Encoder(), batch_size=8, workers=2)
    assert_own_rows(slides[0], next(found))
    found.close()
    assert [slide.is_open for slide in slides] == [0] * 5
    assert set(threading.enumerate()) <= before


def test_slides_of_other_tile_sizes_do_not_share_a_batch():
    slides, encoder = [Slide(0, 5), Slide(1, 6, edge=16), Slide(2, 5)], Encoder()
    for slide, one in zip(slides, embedded(slides, encoder), strict=True):
        assert_own_rows(slide, one)
    assert encoder.batches == [[0, 5], [1, 6], [2, 5]]


def test_slides_are_asked_for_a_little_before_their_turn():
    asked, slides = [], [Slide(number, 64) for number in range(8)]

    def one_by_one():
        for slide in slides:
            asked.append(slide.number)
            yield slide()

    found = embed_slides(one_by_one(), Encoder(), batch_size=16, workers=2)
    with closing(found):
        next(found)
        # the two whose tiles may be in the six units ahead, and the one that is being opened
        assert len(asked) <= 1 + -(-2 * 3 * 16 // 64) + 1 + OPENED_AHEAD

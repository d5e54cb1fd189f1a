import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from wsi_kd.core.errors import SlideProblem
from wsi_kd.slides.decode_once import DecodeOnce
from wsi_kd.slides.protocol import unreadable


class Tiles:
    """Tile k is an array full of k; counts how often each was decoded, and into how many arrays."""

    def __init__(self, damaged=()):
        self.damaged, self.decoded, self.arrays = set(damaged), [], set()

    def decode(self, index, out):
        self.decoded.append(index)
        self.arrays.add(out.ctypes.data)
        if index in self.damaged:
            raise unreadable(f"damaged {index}")
        out[...] = index
        return out


def once(tiles, uses, *, max_kept=100):
    return DecodeOnce(tiles.decode, np.array(uses, np.int64), shape=(4, 4, 3), max_kept=max_kept)


def request(decoded, indices):
    found = []
    for index in indices:
        slot = decoded.take(index)
        try:
            found.append(int(decoded.pixels(slot, index)[0, 0, 0]))
        finally:
            decoded.give_back(index, slot)
    return found


def test_a_tile_is_decoded_once_for_all_announced_requests():
    tiles = Tiles()
    decoded = once(tiles, [1, 2, 2, 1])
    assert [request(decoded, pair) for pair in ([0, 1], [1, 2], [2, 3])] == [[0, 1], [1, 2], [2, 3]]
    assert tiles.decoded == [0, 1, 2, 3]


def test_arrays_are_used_again_when_nobody_needs_them():
    tiles = Tiles()
    decoded = once(tiles, [1, *[2] * 98, 1])
    for index in range(99):
        assert request(decoded, [index, index + 1]) == [index, index + 1]
    assert tiles.decoded == list(range(100))
    assert len(tiles.arrays) == 1  # a tile is dropped before the next one is decoded


def test_an_array_in_use_is_never_given_to_another_tile():
    tiles = Tiles()
    decoded = once(tiles, [1, 1])
    held = decoded.take(0)
    pixels = decoded.pixels(held, 0)
    assert request(decoded, [0]) == [0]  # not announced: uses up the only announced use while 0 is held
    assert request(decoded, [1]) == [1]
    assert (pixels == 0).all()
    decoded.give_back(0, held)


def test_more_requests_than_announced_decode_again():
    tiles = Tiles()
    decoded = once(tiles, [1])
    assert [request(decoded, [0]) for _ in range(3)] == [[0]] * 3
    assert tiles.decoded == [0, 0, 0]


def test_no_more_than_the_bound_is_kept():
    tiles = Tiles()
    decoded = once(tiles, [2] * 50, max_kept=7)
    for _ in range(2):
        assert [request(decoded, [index]) for index in range(50)] == [[index] for index in range(50)]
        assert len(decoded._slots) <= 7
    assert len(tiles.arrays) <= 8
    assert len(tiles.decoded) == 50 + 43  # the last seven are still there when all are asked for again


def test_every_request_for_a_damaged_tile_is_told_and_it_is_tried_once():
    tiles = Tiles(damaged={1})
    decoded = once(tiles, [1, 3, 1])
    for pair in ([0, 1], [1], [1, 2]):
        with pytest.raises(SlideProblem, match="damaged 1"):
            request(decoded, pair)
    assert tiles.decoded == [0, 1]
    assert not decoded._slots


def test_threads_wait_for_the_one_that_decodes():
    together, tiles = threading.Barrier(4, timeout=60), Tiles()
    decoded = once(tiles, [4, 4])

    def work(_):
        together.wait()
        return request(decoded, [0, 1])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [[0, 1]] * 4
    assert sorted(tiles.decoded) == [0, 1]


def test_the_last_use_is_known():
    decoded = once(Tiles(), [1, 2])
    assert decoded.is_last_use(0)
    assert not decoded.is_last_use(1)
    request(decoded, [1])
    assert not decoded.is_last_use(1)  # still kept: it need not be decoded again
    request(decoded, [1])
    assert decoded.is_last_use(1)


def test_a_request_that_ends_early_leaves_nothing_behind():
    tiles = Tiles()
    decoded = once(tiles, [2, 1])
    request(decoded, [0])
    decoded.skip([0, 1])
    assert not decoded._slots
    assert tiles.decoded == [0]

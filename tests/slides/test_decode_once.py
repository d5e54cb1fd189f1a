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
        (slot,) = decoded.take([index])
        try:
            found.append(int(decoded.pixels(slot, index)[0, 0, 0]))
        finally:
            decoded.give_back([index], [slot])
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
    (held,) = decoded.take([0])
    pixels = decoded.pixels(held, 0)
    assert request(decoded, [0]) == [0]  # not announced: uses up the only announced use while 0 is held
    assert request(decoded, [1]) == [1]
    assert (pixels == 0).all()
    decoded.give_back([0], [held])


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
    together, tiles = threading.Barrier(4, timeout=10), Tiles()
    decoded = once(tiles, [4, 4])

    def work(_):
        together.wait()
        return request(decoded, [0, 1])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [[0, 1]] * 4
    assert sorted(tiles.decoded) == [0, 1]


def test_a_tile_is_busy_while_another_thread_decodes_it():
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Tiles):
        def decode(self, index, out):
            begun.set()
            assert go_on.wait(10)
            return super().decode(index, out)

    decoded = once(Slow(), [2, 2])
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(request, decoded, [0])
        assert begun.wait(10)
        busy = [decoded.is_busy(indices) for indices in ([0], [1], [1, 0], [])]
        go_on.set()
        assert reading.result(10) == [0]
    assert busy == [True, False, True, False]
    assert not decoded.is_busy([0, 1])  # there, or nobody asked for it


def test_a_thread_decodes_into_the_arrays_that_it_used_last():
    """Two threads with disjoint tiles: after the first tile of each, none gets an array of the other's."""
    together, arrays = threading.Barrier(2, timeout=10), {}

    class Noting(Tiles):
        def decode(self, index, out):
            arrays.setdefault(threading.get_ident(), []).append(out.ctypes.data)
            return super().decode(index, out)

    decoded = once(Noting(), [1] * 40)

    def work(start):
        for index in range(start, start + 20):
            together.wait()
            request(decoded, [index])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, (0, 20)))
    assert [len(of_one) for of_one in arrays.values()] == [20, 20]
    first, second = map(set, arrays.values())
    assert len(first) == len(second) == 1
    assert not first & second


def test_a_request_that_ends_early_leaves_nothing_behind():
    tiles = Tiles()
    decoded = once(tiles, [2, 1])
    request(decoded, [0])
    decoded.skip([0, 1])
    assert not decoded._slots
    assert tiles.decoded == [0]

"""Decoded tiles shared by threads: each is decoded by the first that needs it and dropped by the last."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice

import numpy as np
from jaxtyping import Int64

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.shapes import Pixels

PIECE_TILES = 32
"""Tiles in one allocation: 6 MB for tiles of 256 px. Apart they took 7 % longer to read in a shifted grid."""
OWN_SPARE = 4
"""Arrays that a thread keeps to itself: they are in its processor's cache, not in another's."""


class Slot:
    """One stored tile while requests need it: its pixels, or why there are none."""

    __slots__ = ("lock", "pixels", "problem", "users")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pixels: Pixels | None = None
        self.problem: SlideProblem | None = None
        self.users = 0


class DecodeOnce:
    """Keeps decoded tiles until as many requests as were announced have used them.

    Requests beyond those find a tile that others still wait for, or have it decoded again. Where more than
    `max_kept` tiles would be held, the oldest that nobody is using are dropped and decoded again when
    needed: memory is bounded in any order of requests. Arrays of dropped tiles are used again: fresh ones
    would cost a page fault for every 4 KiB.
    """

    def __init__(
        self,
        decode: Callable[[int, Pixels], Pixels],
        uses: Int64[np.ndarray, "stored"],
        *,
        shape: tuple[int, int, int],
        max_kept: int,
    ) -> None:
        """Announce how often each tile will be used.

        Args:
            decode: decodes a tile into an array and returns it; raises SlideProblem where it is damaged.
            uses: number of requests that will need each tile.
            shape: of a tile.
            max_kept: tiles held at most, beside those in use.
        """
        self._decode = decode
        self._left: list[int] = uses.tolist()
        self._shape = shape
        self._max_kept = max_kept
        self._slots: dict[int, Slot] = {}
        self._spare: list[Pixels] = []
        self._own = threading.local()
        self._lock = threading.Lock()

    def is_busy(self, indices: Sequence[int]) -> bool:
        """Tell whether another thread is decoding one of these tiles: better come back later."""
        for index in indices:
            slot = self._slots.get(index)
            if slot is not None and slot.pixels is None and slot.lock.locked():
                return True
        return False

    def take(self, indices: Sequence[int]) -> list[Slot]:
        """Reserve tiles, each for one use, which `give_back` must end."""
        taken = []
        with self._lock:
            for index in indices:
                slot = self._slots.get(index)
                if slot is None:
                    slot = self._slots[index] = Slot()
                slot.users += 1
                taken.append(slot)
        return taken

    def pixels(self, slot: Slot, index: int) -> Pixels:
        """Return the pixels of a tile that `take` reserved; they are shared and must not be changed.

        Raises:
            SlideProblem: the tile is damaged; every request for it is told so.
        """
        if slot.pixels is None:
            with slot.lock:
                if slot.pixels is None:
                    slot.pixels = self._decoded(slot, index)
        return slot.pixels

    def give_back(self, indices: Sequence[int], slots: Sequence[Slot]) -> None:
        """End uses: the tiles may be dropped, or their arrays changed, from now on."""
        left = self._left
        with self._lock:
            for index, slot in zip(indices, slots, strict=True):
                slot.users -= 1
                left[index] -= 1
                if left[index] <= 0 and not slot.users:
                    self._drop(index, slot)
            if len(self._slots) > self._max_kept:
                self._drop_oldest()

    def skip(self, indices: Sequence[int]) -> None:
        """Tell that a request will not use these tiles after all."""
        self.give_back(indices, self.take(indices))

    def _drop(self, index: int, slot: Slot) -> None:
        del self._slots[index]
        if slot.pixels is not None:
            self._keep(slot.pixels)

    def _drop_oldest(self) -> None:
        surplus = len(self._slots) - self._max_kept
        idle = ((index, slot) for index, slot in self._slots.items() if not slot.users)
        for index, slot in list(islice(idle, surplus)):
            self._drop(index, slot)

    def _decoded(self, slot: Slot, index: int) -> Pixels:
        if slot.problem is None:
            array = self._array()
            try:
                return self._decode(index, array)
            except SlideProblem as problem:
                slot.problem = problem
                self._keep(array)
        raise slot.problem

    def _array(self) -> Pixels:
        """Return an array to decode into; new ones are cut from a large piece, which huge pages can hold."""
        for spare in (self._own_spare(), self._spare):
            if spare:
                with suppress(IndexError):  # another thread may take the last one of those that all share
                    return spare.pop()
        first, *others = np.empty((PIECE_TILES, *self._shape), np.uint8)
        self._spare.extend(others)
        return first

    def _keep(self, array: Pixels) -> None:
        """Lay an array aside: the last few for the thread that used it, whose cache may still hold them."""
        spare = self._own_spare()
        (spare if len(spare) < OWN_SPARE else self._spare).append(array)

    def _own_spare(self) -> list[Pixels]:
        spare: list[Pixels] | None = getattr(self._own, "spare", None)
        if spare is None:
            spare = self._own.spare = []
        return spare

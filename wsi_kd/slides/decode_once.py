"""Decoded tiles shared by threads: each is decoded by the first that needs it and dropped by the last."""

import threading
from collections.abc import Callable
from itertools import islice

import numpy as np
from jaxtyping import Int64

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.shapes import Pixels

PIECE_TILES = 32
"""Tiles in one allocation: 6 MB for tiles of 256 px. Apart they took 7 % longer to read in a shifted grid."""


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
        self._lock = threading.Lock()

    def is_last_use(self, index: int) -> bool:
        """Tell whether no other request waits for a tile, so that it may be decoded straight into place."""
        return self._left[index] <= 1 and index not in self._slots

    def take(self, index: int) -> Slot:
        """Reserve a tile, which `give_back` must end."""
        with self._lock:
            slot = self._slots.get(index)
            if slot is None:
                slot = self._slots[index] = Slot()
            slot.users += 1
        return slot

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

    def give_back(self, index: int, slot: Slot) -> None:
        """End a use: the tile may be dropped, or its array changed, from now on."""
        left = self._left
        with self._lock:
            slot.users -= 1
            left[index] -= 1
            if left[index] <= 0 and not slot.users:
                self._drop(index, slot)
            elif len(self._slots) > self._max_kept:
                self._drop_oldest()

    def skip(self, indices: list[int]) -> None:
        """Tell that a request will not use these tiles after all."""
        for index in indices:
            self.give_back(index, self.take(index))

    def used(self, index: int) -> None:
        """Tell that a tile was decoded straight into place."""
        self._left[index] -= 1

    def _drop(self, index: int, slot: Slot) -> None:
        del self._slots[index]
        if slot.pixels is not None:
            self._spare.append(slot.pixels)

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
                self._spare.append(array)
        raise slot.problem

    def _array(self) -> Pixels:
        """Return an array to decode into; new ones are cut from a large piece, which huge pages can hold."""
        try:
            return self._spare.pop()
        except IndexError:
            first, *others = np.empty((PIECE_TILES, *self._shape), np.uint8)
            self._spare.extend(others)
            return first

"""Stored pieces of an image (tiles, strips, chunks) and the bounded memory that keeps decoded ones."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from threading import Lock
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from wsi_kd.core.units import Box

Segment = UInt8[np.ndarray, "height width samples"]
"""Decoded pixels of one stored piece: RGB, or RGBA with straight alpha."""

CACHE_BYTES = 2**27
"""Decoded pieces kept of one slide; more only where a single region touches more."""
MAX_CACHE_BYTES = 2**30
"""Never more than this, whatever a region touches (strips of a very wide image)."""


class LevelGrid(NamedTuple):
    """One level of a slide and the pieces it is stored in; the last column and row may be cut short."""

    width_px: int
    height_px: int
    segment_width_px: int
    segment_height_px: int


@runtime_checkable
class SegmentSource(Protocol):
    """A file whose levels are stored in pieces that are decoded one at a time."""

    format: str
    grids: tuple[LevelGrid, ...]
    """Finest level first."""
    properties: Mapping[str, str]
    bounds: Box
    icc_profile: bytes | None
    associated: Mapping[str, tuple[int, int]]

    def read_segment(self, level: int, *, column: int, row: int) -> Segment | None:
        """Decode one piece; None for one that was never stored. What is damaged raises."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class SegmentCache:
    """Decoded pieces, the least recently used one given up first; threads share it and decode each once."""

    def __init__(self) -> None:
        self._pieces: OrderedDict[Hashable, Segment | None] = OrderedDict()
        self._being_made: dict[Hashable, Lock] = {}
        self._lock = Lock()
        self._held_bytes = 0
        self.capacity_bytes = CACHE_BYTES

    def make_room_for(self, region_bytes: int) -> None:
        """Let the pieces of one region stay together: its neighbor in the row needs most of them again."""
        self.capacity_bytes = max(self.capacity_bytes, min(region_bytes, MAX_CACHE_BYTES))

    def fetch(self, key: Hashable, make: Callable[[], Segment | None]) -> Segment | None:
        """Return a kept piece, or make and keep it; whoever asks meanwhile waits.

        A piece larger than the whole cache is kept alone. What `make` raises is raised, and nothing is kept.
        """
        with self._lock:
            if key in self._pieces:
                self._pieces.move_to_end(key)
                return self._pieces[key]
            making = self._being_made.setdefault(key, Lock())
        with making:
            with self._lock:
                if key in self._pieces:
                    return self._pieces[key]
            try:
                piece = make()
                self._keep(key, piece)
            finally:
                with self._lock:
                    self._being_made.pop(key, None)
        return piece

    def _keep(self, key: Hashable, piece: Segment | None) -> None:
        with self._lock:
            self._pieces[key] = piece
            self._held_bytes += _bytes_of(piece)
            while self._held_bytes > self.capacity_bytes and len(self._pieces) > 1:
                _, given_up = self._pieces.popitem(last=False)
                self._held_bytes -= _bytes_of(given_up)


def _bytes_of(piece: Segment | None) -> int:
    return 0 if piece is None else piece.nbytes

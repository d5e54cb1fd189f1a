"""Encoded tiles, bounded in bytes: the least recently used go first."""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Final

MAX_BYTES: Final = 256 * 2**20
ENTRY_BYTES: Final = 300
"""What a kept tile costs beside its own bytes: keys, headers, links."""


class TileCache:
    """Bytes by key; threads share it."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = Lock()
        self.size_bytes = 0
        """What is held now; never above `max_bytes`."""

    def get(self, key: Hashable) -> bytes | None:
        """Return a tile that is kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: Hashable, content: bytes) -> None:
        """Keep a tile; one larger than the whole cache is not kept."""
        with self._lock:
            former = self._kept.pop(key, None)
            if former is not None:
                self.size_bytes -= len(former) + ENTRY_BYTES
            self._kept[key] = content
            self.size_bytes += len(content) + ENTRY_BYTES
            while self.size_bytes > self._max_bytes:
                _, dropped = self._kept.popitem(last=False)
                self.size_bytes -= len(dropped) + ENTRY_BYTES

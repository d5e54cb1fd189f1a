"""A file hashed block by block without being held, of which parts can be read again and proved the same."""

import hashlib
import io
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK_BYTES: Final = 1 << 18
"""What the processor's cache holds."""
MOST_AT_ONCE: Final = 1 << 30
"""Bytes of one system call; Linux reads just under 2 GiB at most."""


def read_at(descriptor: int, buffer: memoryview, position: int) -> int:
    """Fill `buffer` (of bytes) with a file's bytes from `position` on; return how many there were."""
    filled = 0
    while filled < len(buffer):
        part = buffer[filled : filled + MOST_AT_ONCE]
        if not (count := os.preadv(descriptor, [part], position + filled)):
            break
        filled += count
    return filled


class CheckedBytes(io.RawIOBase):
    """An open file as HDF5 may see it: `head`, and behind it what was hashed when this was made.

    SHA-256 is a chain: the state before a block and the block give the state after it. The states are kept,
    a few hundred bytes each, so a block that is read again is proved to be the one that was hashed by
    hashing it alone.
    """

    def __init__(self, descriptor: int, *, head: bytes) -> None:
        """Hash the file behind its first `len(head)` bytes, for which `head` stands."""
        super().__init__()
        self._descriptor, self._head, self._position = descriptor, head, 0
        self._states, self._size = [hashlib.sha256()], len(head)
        self._present: tuple[int, bytes] = (-1, b"")
        buffer = memoryview(bytearray(BLOCK_BYTES))
        while count := read_at(descriptor, buffer, self._size):
            state = self._states[-1].copy()
            state.update(buffer[:count])
            self._states.append(state)
            self._size += count

    @property
    def body_sha256(self) -> str:
        """Of all behind the head."""
        return self._states[-1].hexdigest()

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be read anywhere."""
        return True

    def tell(self) -> int:
        """Return where the next byte is read."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go there; return where that is."""
        self._position = (
            offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        )
        return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill `buffer` from here on; return how many bytes there were.

        Raises:
            ValueError: a block is another one now.
        """
        view, filled = memoryview(buffer).cast("B"), 0
        while filled < len(view) and self._position < self._size:
            part = self._from_here()[: len(view) - filled]
            view[filled : filled + len(part)] = part
            filled += len(part)
            self._position += len(part)
        return filled

    def _from_here(self) -> memoryview:
        """Return what the present block still holds."""
        behind = self._position - len(self._head)
        if behind < 0:
            return memoryview(self._head)[self._position :]
        number, start = divmod(behind, BLOCK_BYTES)
        if self._present[0] != number:
            self._present = (number, self._proved(number))
        return memoryview(self._present[1])[start:]

    def _proved(self, number: int) -> bytes:
        content = os.pread(self._descriptor, BLOCK_BYTES, len(self._head) + number * BLOCK_BYTES)
        state = self._states[number].copy()
        state.update(content)
        if state.digest() != self._states[number + 1].digest():
            raise ValueError("it changed while it was read")
        return content

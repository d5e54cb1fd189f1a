"""Memory that a process has freed: kept for its next allocation, or handed back to the system at once."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

TRIM_THRESHOLD: Final = -1
"""glibc's M_TRIM_THRESHOLD: bytes free at the heap's end above which they are handed back."""
MMAP_THRESHOLD: Final = -3
"""M_MMAP_THRESHOLD: bytes above which an allocation is mapped by itself, and handed back when freed."""
MMAP_MAX: Final = -4
"""M_MMAP_MAX: how many allocations may be mapped at once."""
NEVER: Final = 2**31 - 1
KEPT: Final = {MMAP_MAX: 0, TRIM_THRESHOLD: NEVER}
USUAL: Final = {MMAP_MAX: 65_536, MMAP_THRESHOLD: 32 << 20, TRIM_THRESHOLD: 64 << 20}
"""glibc's defaults; of the two thresholds, which it moves by itself, the highest values it moves them to."""


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory for the next allocation inside; hand all of it back at the end.

    A training step frees tens of megabytes that the next step asks for again. glibc hands so much back to
    the system, which then clears every page anew: up to a quarter of a step on a large bag. The most memory
    that the process holds stays about the same, but is held between steps too. Does nothing where the C
    library has no `mallopt` (macOS, Windows, musl).
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    for option, value in KEPT.items():
        libc.mallopt(option, value)
    try:
        yield
    finally:
        for option, value in USUAL.items():
            libc.mallopt(option, value)
        libc.malloc_trim(0)


def hand_back_freed_memory() -> None:
    """Hand all freed memory back to the system: what one step of a slide needed does not count in the next.

    It takes milliseconds. Does nothing where the C library has no `malloc_trim`.
    """
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    whole = libc is not None and hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim")
    return libc if whole else None

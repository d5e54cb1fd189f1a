"""Freed memory stays with the process inside `freed_memory_kept`, and goes back to the system after."""

import ctypes
import mmap
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from wsi_kd.core.memory import freed_memory_kept, hand_back_freed_memory

MEGABYTES = 256
HAS_GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim")


def held_megabytes():
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * mmap.PAGESIZE / 2**20


def left_after_freeing():
    """Return how many of `MEGABYTES` the process still holds after it has freed them."""
    before = held_megabytes()
    filled = torch.ones(MEGABYTES << 18)
    assert held_megabytes() - before > 0.9 * MEGABYTES
    del filled
    return held_megabytes() - before


def kept_inside_and_handed_back_after():
    assert left_after_freeing() < 0.1 * MEGABYTES
    start = held_megabytes()
    with freed_memory_kept():
        assert left_after_freeing() > 0.9 * MEGABYTES
    assert held_megabytes() - start < 0.1 * MEGABYTES
    assert left_after_freeing() < 0.1 * MEGABYTES


def handed_back_after_an_error():
    start = held_megabytes()
    context = freed_memory_kept()
    context.__enter__()
    assert left_after_freeing() > 0.9 * MEGABYTES
    error = ZeroDivisionError()
    assert not context.__exit__(ZeroDivisionError, error, None)
    assert held_megabytes() - start < 0.1 * MEGABYTES


def handed_back_at_once():
    """Of pieces too small to be mapped by themselves, one at the end of the heap keeps all below it."""
    before = held_megabytes()
    pieces = [b"1" * 100_000 for _ in range(2_000)]
    last = pieces.pop()
    del pieces
    assert held_megabytes() - before > 150
    hand_back_freed_memory()
    assert held_megabytes() - before < 20
    assert len(last) == 100_000


@pytest.mark.skipif(not HAS_GLIBC, reason="the C library has no malloc_trim")
@pytest.mark.parametrize(
    "check", [kept_inside_and_handed_back_after, handed_back_after_an_error, handed_back_at_once]
)
def test_memory_is_kept_inside_and_handed_back(check):
    """In a process of its own: what tests before it left on the heap would count too."""
    command = [sys.executable, __file__, check.__name__]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_elsewhere_it_does_nothing(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "CDLL", None)  # calling it would fail
    with freed_memory_kept():
        assert torch.ones(3).sum().item() == 3


if __name__ == "__main__":
    globals()[sys.argv[1]]()

"""Seeded damage of files: the same seed damages the same bytes in the same way, on every machine."""

from collections.abc import Iterator

import numpy as np

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
LONGEST_RUN = 64

Area = tuple[int, int]
"""First byte and the one behind the last."""


def mutants(content: bytes, areas: list[Area], *, count: int, seed: int) -> Iterator[bytes]:
    """Yield damaged copies of a file, each different from it; the areas take turns.

    Args:
        content: the whole file.
        areas: where damage is done.
        count: how many.
        seed: which.
    """
    rng = np.random.default_rng(seed)
    made = 0
    while made < count:
        low, high = areas[made % len(areas)]
        mutant = _damaged(content, rng, low=low, high=min(high, len(content)))
        if mutant != content:
            made += 1
            yield mutant


def _damaged(content: bytes, rng: np.random.Generator, *, low: int, high: int) -> bytes:
    at = int(rng.integers(low, high))
    run = min(int(rng.integers(1, LONGEST_RUN)), high - at)
    changed = bytearray(content)
    match rng.choice(["flip", "flips", "extreme", "zeros", "noise", "copy", "cut", "insert", "delete"]):
        case "flip":
            changed[at] ^= 1 << int(rng.integers(8))
        case "flips":
            for place in rng.integers(low, high, 8):
                changed[place] ^= 1 << int(rng.integers(8))
        case "extreme":
            width = int(rng.choice([1, 2, 4, 8]))
            value = int(rng.choice(EXTREMES)) & ((1 << (8 * width)) - 1)
            changed[at : at + width] = value.to_bytes(width, "little")[: len(content) - at]
        case "zeros":
            changed[at : at + run] = bytes(run)
        case "noise":
            changed[at : at + run] = rng.integers(0, 256, run, dtype=np.uint8).tobytes()
        case "copy":
            start = int(rng.integers(0, len(content) - run))
            changed[at : at + run] = content[start : start + run]
        case "cut":
            del changed[at:]
        case "insert":
            changed[at:at] = rng.integers(0, 256, run, dtype=np.uint8).tobytes()
        case "delete":
            del changed[at : at + run]
    return bytes(changed)

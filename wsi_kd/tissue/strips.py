"""Overviews in runs of rows: pixels and their neighbors need no plane of floats."""

from collections.abc import Iterator
from typing import NamedTuple

STRIP_PX = 256


class Strip(NamedTuple):
    """Rows of an overview, and the rows that are needed to compute them."""

    rows: slice
    around: slice
    """`rows` and a halo on both sides, as far as there are rows."""
    inside: slice
    """Where `rows` lie within `around`."""


def strips(height: int) -> Iterator[slice]:
    """Cut an overview into runs of rows: what is computed pixel by pixel needs no second plane beside it."""
    return (slice(top, min(top + STRIP_PX, height)) for top in range(0, height, STRIP_PX))


def strips_with_halo(height: int, halo_px: int) -> Iterator[Strip]:
    """Cut an overview into runs of rows for filters that reach `halo_px` rows up and down."""
    for rows in strips(height):
        first, end = max(rows.start - halo_px, 0), min(rows.stop + halo_px, height)
        yield Strip(rows, slice(first, end), slice(rows.start - first, rows.stop - first))

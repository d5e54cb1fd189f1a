"""Overviews in runs of rows: pixels and their neighbors need no plane of floats.

A run holds about so many pixels, however wide the overview is, so that what is held while one is worked on
does not grow with the slide.
"""

from collections.abc import Iterator
from typing import NamedTuple

STRIP_PX = 2**18
"""Pixels of a run whose colors are looked at: some 50 bytes each."""
MASK_STRIP_PX = 2**20
"""Pixels of a run of a mask: 10 bytes each."""


class Strip(NamedTuple):
    """Rows of an overview, and the rows that are needed to compute them."""

    rows: slice
    around: slice
    """`rows` and a halo on both sides, as far as there are rows."""
    inside: slice
    """Where `rows` lie within `around`."""


def strips(shape: tuple[int, ...], *, pixels: int | None = None, multiple_px: int = 1) -> Iterator[slice]:
    """Cut an overview into runs of rows: what is computed pixel by pixel needs no second plane beside it.

    Args:
        shape: height, width and what else there is.
        pixels: of a run, about; default: `STRIP_PX`.
        multiple_px: every run but the last has a multiple of so many rows.
    """
    height, width = shape[:2]
    rows = (STRIP_PX if pixels is None else pixels) // max(1, width)
    rows = max(1, rows // multiple_px) * multiple_px
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def strips_with_halo(
    shape: tuple[int, ...], halo_px: int, *, pixels: int | None = None, multiple_px: int = 1
) -> Iterator[Strip]:
    """Cut an overview into runs of rows for filters that reach `halo_px` rows up and down."""
    for rows in strips(shape, pixels=pixels, multiple_px=multiple_px):
        first, end = max(rows.start - halo_px, 0), min(rows.stop + halo_px, shape[0])
        yield Strip(rows, slice(first, end), slice(rows.start - first, rows.stop - first))

"""A `SlideReader` over any file that is stored in pieces: TIFF by tifffile, PNG and JPEG, OME-Zarr.

Only the pieces that a region touches are decoded. A reader that is pickled, or found in a forked child, opens
the file anew there; threads may share it.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np

from wsi_kd.core.errors import WsiKdError
from wsi_kd.core.file_identity import FileIdentity
from wsi_kd.core.shapes import Pixels
from wsi_kd.slides.composite import composite
from wsi_kd.slides.identity import check_unchanged, identity_of
from wsi_kd.slides.ledger import LEDGER
from wsi_kd.slides.protocol import WHITE, Background, unreadable
from wsi_kd.slides.segments import LevelGrid, SegmentCache, SegmentSource

RGBA = 4


class _MadeOf(NamedTuple):
    """What a pickled reader is opened from."""

    path: Path
    background: Background
    open_source: Callable[[Path], SegmentSource]
    identity: FileIdentity


class _Part(NamedTuple):
    """Where a stored piece and a region overlap: slices of both."""

    column: int
    row: int
    in_segment: tuple[slice, slice]
    in_region: tuple[slice, slice]


class SegmentReader:
    """A `SlideReader`; `open_source` opens the file, once in every process that reads it."""

    def __init__(
        self, path: Path, *, background: Background, open_source: Callable[[Path], SegmentSource]
    ) -> None:
        self.path = path
        self._background: Background = background
        self._open_source = open_source
        self._identity = identity_of(path)
        source = open_source(path)
        self._source, self._process, self._cache = source, os.getpid(), SegmentCache()
        self._inherited: list[SegmentSource] = []
        self.format = source.format
        self.properties: Mapping[str, str] = {**source.properties, **_stored(source.grids)}
        self.associated: Mapping[str, tuple[int, int]] = source.associated
        self.icc_profile = source.icc_profile
        self.bounds = source.bounds
        self.background = WHITE
        self.level_dimensions = tuple((grid.width_px, grid.height_px) for grid in source.grids)
        width, height = self.level_dimensions[0]
        self.level_downsamples = tuple((width / w + height / h) / 2 for w, h in self.level_dimensions)

    def read_region(
        self, *, x_level0_px: int, y_level0_px: int, level: int, width_px: int, height_px: int
    ) -> Pixels:
        """Read one region as RGB; it starts at the level's nearest pixel, outside the slide is background.

        Raises:
            SlideProblem: unreadable, when a piece that the region needs is damaged.
        """
        downsample = self.level_downsamples[level]
        corner = (round(x_level0_px / downsample), round(y_level0_px / downsample))
        source = self._current()
        parts = list(_parts(source.grids[level], corner, size_px=(width_px, height_px)))
        self._cache.make_room_for(len(parts) * _segment_bytes(source.grids[level]))
        try:
            with LEDGER.reading(self.path):
                region = self._assemble(source, level, parts, size_px=(width_px, height_px))
        except (WsiKdError, MemoryError):
            raise
        except Exception as error:  # decoders raise whatever they like over damaged bytes
            raise unreadable(
                f"damaged at x {x_level0_px}, y {y_level0_px} (level {level}, {width_px}x{height_px} px): "
                f"{str(error)[:160] or type(error).__name__}"
            ) from None
        check_unchanged(self.path, self._identity)
        return region

    def close(self) -> None:
        """Release the file; closing twice is harmless."""
        if self._process == os.getpid():
            self._source.close()

    def __enter__(self) -> "SegmentReader":
        """Return the reader itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the reader."""
        self.close()

    def __copy__(self) -> "SegmentReader":
        """Return a reader of the same file with a handle of its own; both share what is decoded."""
        check_unchanged(self.path, self._identity)
        other = SegmentReader(self.path, background=self._background, open_source=self._open_source)
        other._cache = self._cache
        return other

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as path and identity: the process that unpickles opens the same file anew."""
        return _reopen, (_MadeOf(self.path, self._background, self._open_source, self._identity),)

    def _assemble(
        self, source: SegmentSource, level: int, parts: list[_Part], *, size_px: tuple[int, int]
    ) -> Pixels:
        width, height = size_px
        region = np.empty((height, width, 3), np.uint8)
        region[:] = self.background
        for part in parts:
            decode = partial(source.read_segment, level, column=part.column, row=part.row)
            piece = self._cache.fetch((level, part.column, part.row), decode)
            if piece is not None:
                cut = piece[part.in_segment]
                region[part.in_region] = composite(cut, self.background) if cut.shape[2] == RGBA else cut
        return region

    def _current(self) -> SegmentSource:
        if self._process != os.getpid():
            # The parent's file and locks are left alone: a thread of it may have held them while forking.
            check_unchanged(self.path, self._identity)
            self._inherited.append(self._source)
            self._source, self._cache = self._open_source(self.path), SegmentCache()
            self._process = os.getpid()
        return self._source


def _stored(grids: tuple[LevelGrid, ...]) -> dict[str, str]:
    """Tell the size of stored pieces level by level, as OpenSlide does below its own name."""
    return {
        f"stored.level[{level}].tile-{edge}": str(length)
        for level, grid in enumerate(grids)
        for edge, length in (("width", grid.segment_width_px), ("height", grid.segment_height_px))
    }


def _parts(grid: LevelGrid, corner: tuple[int, int], *, size_px: tuple[int, int]) -> Iterator[_Part]:
    """Yield the pieces that a region touches, row by row."""
    (left, top), (width, height) = corner, size_px
    columns = _span(left, width, length_px=grid.width_px, segment_px=grid.segment_width_px)
    rows = _span(top, height, length_px=grid.height_px, segment_px=grid.segment_height_px)
    for row in rows:
        for column in columns:
            x, y = column * grid.segment_width_px, row * grid.segment_height_px
            x_cut = _overlap(
                x, grid.segment_width_px, limits=(max(left, 0), min(left + width, grid.width_px))
            )
            y_cut = _overlap(
                y, grid.segment_height_px, limits=(max(top, 0), min(top + height, grid.height_px))
            )
            yield _Part(
                column,
                row,
                in_segment=(slice(y_cut[0] - y, y_cut[1] - y), slice(x_cut[0] - x, x_cut[1] - x)),
                in_region=(slice(y_cut[0] - top, y_cut[1] - top), slice(x_cut[0] - left, x_cut[1] - left)),
            )


def _span(start: int, length: int, *, length_px: int, segment_px: int) -> range:
    first, last = max(start, 0), min(start + length, length_px)
    return range(first // segment_px, -(-last // segment_px)) if first < last else range(0)


def _overlap(start: int, length: int, *, limits: tuple[int, int]) -> tuple[int, int]:
    return max(start, limits[0]), min(start + length, limits[1])


def _segment_bytes(grid: LevelGrid) -> int:
    return grid.segment_width_px * grid.segment_height_px * RGBA


def _reopen(made_of: _MadeOf) -> SegmentReader:
    check_unchanged(made_of.path, made_of.identity)
    return SegmentReader(made_of.path, background=made_of.background, open_source=made_of.open_source)

"""Rows of all bags end to end: an array in memory, or feature files that are read as rows are needed."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from wsi_kd.features.store import ALIGNED_BYTES
from wsi_kd.features.stored_rows import StoredRows, bytes_of


@runtime_checkable
class Rows(Protocol):
    """What a training asks of its features: an array does, and so does `RowsOnDisk`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """As of an array."""

    @property
    def nbytes(self) -> int:
        """As of an array."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any:
        """Return an array: of a slice, or of the rows that are listed."""


class RowsOnDisk:
    """Arrays of several checked files, end to end; what is taken of them is read from disk at that moment.

    All have the same dtype and shape but for the number of rows. Taking rows raises `RunFailed` where a file
    is no longer the one that was checked.
    """

    def __init__(self, parts: Sequence[StoredRows]) -> None:
        """Join `parts`, at least one."""
        self.parts = tuple(parts)
        self._starts = np.cumsum([0, *(len(part) for part in self.parts)], dtype=np.int64)
        self.dtype = self.parts[0].dtype
        self.shape = (int(self._starts[-1]), *self.parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Size of all rows."""
        return sum(len(part) * part.row_bytes for part in self.parts)

    def __getitem__(self, rows: slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Return rows as an array of their own: a stretch of them, or each one that is listed."""
        if not isinstance(rows, slice):
            return self._listed(np.asarray(rows, dtype=np.int64))
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise IndexError(f"rows on disk are taken one after another, not every {step}th")
        return self.joined([slice(start, stop)])

    def joined(self, spans: Sequence[slice]) -> np.ndarray:
        """Return stretches of rows end to end in one array; nothing else is held meanwhile."""
        bounds = [(int(span.start), max(int(span.start), int(span.stop))) for span in spans]
        taken, filled = self._empty(sum(stop - start for start, stop in bounds)), 0
        for start, stop in bounds:
            self._fill(taken[filled : filled + stop - start], start)
            filled += stop - start
        return taken

    def of_parts(self, indices: Sequence[int]) -> "RowsOnDisk":
        """Return the rows of these files, in that order."""
        return RowsOnDisk([self.parts[index] for index in indices])

    def _fill(self, taken: np.ndarray, start: int) -> None:
        while len(taken):
            number = int(self._part_of(start))
            first = start - int(self._starts[number])
            count = min(len(taken), len(self.parts[number]) - first)
            self.parts[number].fill([(first, bytes_of(taken[:count]))])
            taken, start = taken[count:], start + count

    def _listed(self, rows: Int64[np.ndarray, "rows"]) -> np.ndarray:
        taken = self._empty(len(rows))
        if not len(rows):
            return taken
        if not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)}")
        content, row_bytes, numbers = bytes_of(taken), self.parts[0].row_bytes, self._part_of(rows)
        firsts, order = rows - self._starts[numbers], np.argsort(numbers, kind="stable")
        for places in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
            part = self.parts[numbers[places[0]]]  # each file is opened once
            pairs = zip(firsts[places].tolist(), (places * row_bytes).tolist(), strict=True)
            part.fill((first, content[begin : begin + row_bytes]) for first, begin in pairs)
        return taken

    def _part_of(self, rows: Any) -> Any:
        return np.searchsorted(self._starts, rows, side="right") - 1

    def _empty(self, rows: int) -> np.ndarray:
        """Return an array that begins with a line of the processor's cache, as arrays do in the files."""
        size = rows * self.parts[0].row_bytes
        content = np.empty(size + ALIGNED_BYTES, np.uint8)
        start = -content.ctypes.data % ALIGNED_BYTES
        return content[start : start + size].view(self.dtype).reshape(rows, *self.shape[1:])


def end_to_end(rows: Rows, spans: Sequence[slice]) -> np.ndarray:
    """Return stretches of rows in one array that shares no memory with them."""
    return (
        rows.joined(spans) if isinstance(rows, RowsOnDisk) else np.concatenate([rows[span] for span in spans])
    )

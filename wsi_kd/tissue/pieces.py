"""Connected pieces of a mask, numbered run by run: no plane of numbers is ever held.

Each run is numbered by itself; numbers of neighboring runs whose pixels touch are one piece (connected
components of the graph of touching numbers). What is asked of pieces (area, box, sums) is added up by number,
and a run is numbered anew where its pixels are needed again, which gives the same numbers.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Int32, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from wsi_kd.tissue.bit_mask import BitMask
from wsi_kd.tissue.strips import MASK_STRIP_PX, strips

Connectivity = Literal[4, 8]
Numbers = Int32[np.ndarray, "_rows width"]


class NumberedRun(NamedTuple):
    """A run of rows that holds pieces."""

    rows: slice
    numbers: Numbers
    """Of each pixel, 0 outside; of this run alone."""
    piece_of: Int32[np.ndarray, "_numbers"]
    """The piece that a number belongs to, -1 of 0."""


class _Run(NamedTuple):
    """One run of rows, numbered by itself from 1 on; 0 is outside."""

    rows: slice
    numbers: Numbers
    stats: Int32[np.ndarray, "_numbers 5"]
    """Left, top, width, height and area by number, 0 included."""


class Pieces:
    """The pieces of a mask; each array has one entry a piece, counted from 0 on in no particular order."""

    def __init__(self, mask: BitMask, *, connectivity: Connectivity) -> None:
        """Number the pieces.

        Args:
            mask: what is cut into pieces.
            connectivity: 8 where pixels that share a corner belong together, 4 where they must share an edge.
        """
        self.mask, self.connectivity = mask, connectivity
        stats, touching = [np.empty((0, 5), np.int32)], [np.empty((0, 2), np.int64)]
        above: tuple[int, Int64[np.ndarray, "width"]] | None = None
        first = 0
        for run in self._runs():
            numbers = np.where(run.numbers[[0, -1]] > 0, run.numbers[[0, -1]] + np.int64(first - 1), -1)
            if above is not None and above[0] == run.rows.start:
                touching.append(_touching(above[1], numbers[0], connectivity))
            above = (run.rows.stop, numbers[1])
            found = run.stats[1:].copy()
            found[:, cv2.CC_STAT_TOP] += run.rows.start
            stats.append(found)
            first += len(found)
        self._piece_of = _joined(np.concatenate(touching), first)
        self.count = int(self._piece_of.max(initial=-1)) + 1
        self._measure(np.concatenate(stats))

    def numbered(self) -> Iterator[NumberedRun]:
        """Yield the runs that hold pieces, numbered."""
        first = 0
        for run in self._runs():
            end = first + len(run.stats) - 1
            yield NumberedRun(run.rows, run.numbers, np.append(np.int32(-1), self._piece_of[first:end]))
            first = end

    def chosen(self, keep: Bool[np.ndarray, "pieces"]) -> BitMask:
        """Return the mask of some of the pieces."""
        chosen = BitMask(self.mask.shape)
        table = np.append(keep, False)
        for run in self.numbered():
            chosen[run.rows] = table[run.piece_of][run.numbers]
        return chosen

    def holding(self, seeds: BitMask) -> Bool[np.ndarray, "pieces"]:
        """Tell of each piece whether it holds a pixel of `seeds`."""
        holds = np.zeros(self.count + 1, bool)
        for run in self.numbered():
            if seeds.any(run.rows):
                holds[run.piece_of[run.numbers[seeds[run.rows]]]] = True
        return holds[:-1]

    def _measure(self, stats: Int32[np.ndarray, "numbers 5"]) -> None:
        left, top, width, height, area = stats.T
        self.area = np.zeros(self.count, np.int64)
        np.add.at(self.area, self._piece_of, area)
        self.left, self.top = (np.full(self.count, np.iinfo(np.int32).max, np.int32) for _ in range(2))
        self.right, self.bottom = (np.zeros(self.count, np.int32) for _ in range(2))
        np.minimum.at(self.left, self._piece_of, left)
        np.minimum.at(self.top, self._piece_of, top)
        np.maximum.at(self.right, self._piece_of, left + width)
        np.maximum.at(self.bottom, self._piece_of, top + height)

    def _runs(self) -> Iterator[_Run]:
        for rows in strips(self.mask.shape, pixels=MASK_STRIP_PX):
            if self.mask.any(rows):
                part = self.mask[rows].view(np.uint8)
                _, numbers, stats, _ = cv2.connectedComponentsWithStats(part, connectivity=self.connectivity)
                yield _Run(rows, np.asarray(numbers), np.asarray(stats))


def _touching(
    above: Int64[np.ndarray, "width"], below: Int64[np.ndarray, "width"], connectivity: Connectivity
) -> Int64[np.ndarray, "_pairs 2"]:
    """Return the numbers of two neighboring rows that touch, -1 being outside."""
    pairs = [np.stack([above, below], axis=1)]
    if connectivity == 8:  # noqa: PLR2004 - corners count
        pairs += [np.stack([above[1:], below[:-1]], axis=1), np.stack([above[:-1], below[1:]], axis=1)]
    found = np.concatenate(pairs)
    return np.unique(found[(found >= 0).all(axis=1)], axis=0)


def _joined(touching: Int64[np.ndarray, "pairs 2"], numbers: int) -> Int32[np.ndarray, "numbers"]:
    """Return the piece that each number belongs to."""
    if not numbers:
        return np.empty(0, np.int32)
    ones = np.ones(len(touching), np.int8)
    graph = coo_array((ones, (touching[:, 0], touching[:, 1])), shape=(numbers, numbers))
    return np.asarray(connected_components(graph, directed=False)[1], np.int32)

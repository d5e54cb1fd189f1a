"""Regions of one level put together from its stored JPEG tiles, each decoded once."""

import math
import os
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Int64, UInt8

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.shapes import Pixels
from wsi_kd.slides.decode_once import DecodeOnce
from wsi_kd.slides.grid_cuts import Cut, Part, cuts_inside, grid_cuts
from wsi_kd.slides.stored_tiles import CHANNELS, StoredTiles

_copy_into: Callable[..., object] = cv2.copyTo
"""A few percent faster than an assignment; its types leave out that there may be no mask."""
MAX_KEPT_BYTES = 2**29
"""Decoded tiles held at once. A row of a 100,000 px wide slide is 77 MB; most grids need one or two rows."""

Regions = UInt8[np.ndarray, "regions height width 3"]
Missed = dict[int, SlideProblem | None]
"""Regions that could not be filled: why, or None where a part was never stored."""


class _Request(NamedTuple):
    """One region, as what it needs of tiles that it alone needs, and of those that others need too."""

    pixels: Pixels
    shared: list[int]
    cuts: tuple[Cut, ...]
    """Of `shared`."""
    alone: tuple[tuple[int, Cut], ...]


class StoredRegions:
    """Cuts regions out of stored tiles; threads share what is decoded, forked children go on alone.

    Tiles that several regions need are kept by `DecodeOnce`. A tile that one region alone needs is decoded
    into its place, or into an array of the thread and copied while the cache still has it.
    """

    def __init__(
        self, stored: StoredTiles, uses: Int64[np.ndarray, "stored"], *, background: tuple[int, int, int]
    ) -> None:
        """Announce how often each stored tile will be needed; what lies outside the level is `background`."""
        self._stored = stored
        self._background = background
        self._uses = uses
        self._is_shared = (uses > 1).tobytes()
        self._empty = frozenset(np.flatnonzero(stored.grid.sizes == 0).tolist())
        self._own = threading.local()
        self._process, self.decoded = os.getpid(), self._own_decoded()

    def fill(self, corners: Sequence[tuple[int, int]], regions: Regions) -> Missed:
        """Fill regions that start at whole pixels of the level; return those that could not be filled.

        A region whose tiles another thread is decoding just then comes last: threads at neighboring regions
        would else wait for each other.

        Args:
            corners: x, y of each, in pixels of the level.
            regions: filled in place, each contiguous; of what is missed the pixels are undefined.
        """
        if self._process != os.getpid():  # a forked child: a thread of its parent may have held the locks
            self._process, self.decoded = os.getpid(), self._own_decoded()
        missed: Missed = {}
        later = []
        for number, (corner, region) in enumerate(zip(corners, regions, strict=True)):
            request = self._request(corner, region)
            if request.shared and self.decoded.is_busy(request.shared):
                later.append((number, request))
            else:
                self._serve(number, request, missed)
        for number, request in later:
            self._serve(number, request, missed)
        return missed

    def _request(self, corner: tuple[int, int], region: Pixels) -> _Request:
        grid, (x, y) = self._stored.grid, corner
        height, width = region.shape[:2]
        row, down = divmod(y, grid.tile_height_px)
        column, right = divmod(x, grid.tile_width_px)
        cuts = grid_cuts(grid.edges, (down, right), (height, width), columns=grid.columns)
        if x < 0 or y < 0 or x + width > grid.width_px or y + height > grid.height_px:
            region[...] = self._background
            cuts = cuts_inside(cuts, grid, row=row, column=column)
        indices = [row * grid.columns + column + cut[0] for cut in cuts]
        shared = [index for index in indices if self._is_shared[index]]
        if len(shared) == len(indices):
            return _Request(region, shared, cuts, ())
        pairs = tuple(zip(indices, cuts, strict=True))
        if not shared:
            return _Request(region, shared, (), pairs)
        kept = tuple(cut for index, cut in pairs if self._is_shared[index])
        return _Request(region, shared, kept, tuple(pair for pair in pairs if not self._is_shared[pair[0]]))

    def _serve(self, number: int, request: _Request, missed: Missed) -> None:
        shared = request.shared
        if self._empty and self._lacks_a_part(request):
            missed[number] = None
            self.decoded.skip(shared)
            return
        try:
            if shared:
                self._copy_shared(request)
            for index, (_, source, target) in request.alone:
                self._put_alone(index, source, request.pixels[target])
        except SlideProblem as problem:
            missed[number] = problem

    def _copy_shared(self, request: _Request) -> None:
        """Copy part by part; a tile that is dropped then leaves its array, still cached, to the next one."""
        decoded, pixels, shared = self.decoded, request.pixels, request.shared
        slots = decoded.take(shared)
        done = 0
        try:
            for index, slot, (_, source, target) in zip(shared, slots, request.cuts, strict=True):
                _copy_into(decoded.pixels(slot, index)[source], None, pixels[target])
                decoded.give_back((index,), (slot,))
                done += 1
        finally:
            if done < len(shared):
                decoded.give_back(shared[done:], slots[done:])

    def _lacks_a_part(self, request: _Request) -> bool:
        alone = (index for index, _ in request.alone)
        return not (self._empty.isdisjoint(request.shared) and self._empty.isdisjoint(alone))

    def _put_alone(self, index: int, source: Part, part: Pixels) -> None:
        """Decode a tile for one region: into its place, or where that has gaps, beside it."""
        if part.shape[:2] == self._stored.grid.edges and part.flags.c_contiguous:
            self._stored.decode(index, part)
        else:
            _copy_into(self._stored.decode(index, self._beside())[source], None, part)

    def _beside(self) -> Pixels:
        """Return this thread's array for a tile: small enough to stay in its cache."""
        pixels: Pixels | None = getattr(self._own, "pixels", None)
        if pixels is None:
            pixels = self._own.pixels = np.empty((*self._stored.grid.edges, CHANNELS), np.uint8)
        return pixels

    def _own_decoded(self) -> DecodeOnce:
        grid = self._stored.grid
        shape = (grid.tile_height_px, grid.tile_width_px, CHANNELS)
        max_kept = max(1, MAX_KEPT_BYTES // math.prod(shape))
        return DecodeOnce(self._stored.decode, self._uses, shape=shape, max_kept=max_kept)

"""What reading threads do for one slide: a few neighboring tiles read, measured, normalized and prepared."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.shapes import Coords, FeatureArray, Pixels, TileBatch
from wsi_kd.features.feature_rows import FeatureRows
from wsi_kd.features.quality import Fate, QualityCheck, fates, measure_tiles
from wsi_kd.features.quality_columns import TileMeasures

TileReader = Callable[[Sequence[tuple[int, int]], TileBatch], dict[int, SlideProblem]]
"""Reads the tiles at x, y (level-0 px) into an array, on any thread; returns those that are damaged."""


class OpenedTiles(NamedTuple):
    """How the tiles of a slide are read, once it is open."""

    read: TileReader
    normalize: Callable[[Pixels], Pixels] | None = None
    """Changes the stains of a tile, after all else has looked at it."""


class SlideTiles(NamedTuple):
    """A slide whose turn will come."""

    coords: Coords
    tile_px: int
    """Edge of a tile as it is read."""
    opening: Callable[[], AbstractContextManager[OpenedTiles]]
    """Opens the slide, on any thread, some time before its tiles are read; raises SlideProblem."""
    check: QualityCheck | None = None
    """What is measured on each tile and which are left out for it; None: nothing, none."""


class EmbeddedTiles(NamedTuple):
    """Features of the tiles that could be read, in the order of the coordinates."""

    features: FeatureArray
    kept: Bool[np.ndarray, "tiles"]
    """Which of the tiles those are."""
    damaged: tuple[str, ...]
    """Why tiles could not be read, one reason each."""
    fates: Int64[np.ndarray, "tiles"]
    """A `Fate` for every tile: kept, damaged, or left out for its quality."""
    measures: TileMeasures | None
    """Of the kept tiles; None where nothing was measured."""
    largest: float
    """Magnitude of the largest feature before it was rounded; NaN or infinite where one is."""


class ReadUnit(NamedTuple):
    """A few tiles after reading, in the order in which they were read."""

    fates: list[int]
    damaged: list[str]
    measures: TileMeasures | None
    """Of the kept tiles."""
    features: FeatureArray | None
    """Of its kept tiles, where the encoder works in the threads."""


class SlideInWork:
    """One slide from its turn to its end: what is known of its tiles so far."""

    def __init__(self, tiles: SlideTiles, *, dtype: str | None) -> None:
        """Plan to read row by row of the slide, whatever the order of the coordinates."""
        self.tiles = tiles
        self.order = np.lexsort((tiles.coords[:, 0], tiles.coords[:, 1]))
        self.opened: OpenedTiles | None = None
        self.problem: SlideProblem | None = None
        self.fault: Exception | None = None
        self.is_read = False
        self.encoded = 0
        """Tiles whose features are in `rows`, or that have none."""
        self.rows = FeatureRows(len(tiles.coords), dtype)
        self._fates: list[int] = []
        self._damaged: list[str] = []
        self._measures: list[TileMeasures] = []
        self._open = ExitStack()

    def open(self) -> None:
        """Open the slide; one that cannot be read keeps the reason in `problem`, whatever else in `fault`."""
        try:
            self.opened = self._open.enter_context(self.tiles.opening())
        except SlideProblem as problem:
            self.problem = problem
        except Exception as fault:  # raised when the slide's turn comes, after the slides before it
            self.fault = fault

    def close(self) -> None:
        """Close the slide; closing twice is harmless."""
        self._open.close()

    def add(self, unit: ReadUnit) -> None:
        """Note what became of the next tiles."""
        self._fates.extend(unit.fates)
        self._damaged.extend(unit.damaged)
        if unit.measures is not None:
            self._measures.append(unit.measures)

    @property
    def is_done(self) -> bool:
        """Tell whether all tiles are read and encoded, or none will be."""
        return self.is_read and (self.problem is not None or self.encoded == len(self.order))

    def put(self, fates: Sequence[int], features: FeatureArray | None) -> None:
        """Lay the features of the next tiles' kept ones into their rows."""
        places = self.order[self.encoded : self.encoded + len(fates)]
        self.encoded += len(fates)
        if features is not None and len(features):
            self.rows.put(places[np.equal(fates, Fate.KEPT)], features)

    def found(self, feature_dim: int) -> EmbeddedTiles:
        """Return all of it, in the order of the coordinates."""
        found = np.array(self._fates, np.int64)
        kept = np.empty(len(found), bool)
        kept[self.order] = found == Fate.KEPT
        measures = (
            TileMeasures(*map(np.concatenate, zip(*self._measures, strict=True))) if self._measures else None
        )
        return _in_order_of_coords(
            EmbeddedTiles(
                self.rows.joined(kept, feature_dim),
                kept,
                tuple(self._damaged),
                found,
                measures,
                self.rows.largest,
            ),
            self.order,
        )


def read_unit(
    slide: SlideInWork,
    corners: Sequence[tuple[int, int]],
    room: TileBatch,
    *,
    encode: Callable[[TileBatch], FeatureArray] | None = None,
    prepare: Callable[[TileBatch], None] | None = None,
) -> ReadUnit:
    """Read a few tiles of an opened slide on the calling thread.

    Args:
        slide: opened.
        corners: where the tiles are.
        room: array that tiles are read into.
        encode: the encoder, where it works in the threads.
        prepare: takes the tiles as they shall be encoded, before `room` is used again.
    """
    assert slide.opened is not None
    problems = slide.opened.read(corners, room)
    tile_fates = [int(Fate.DAMAGED if number in problems else Fate.KEPT) for number in range(len(corners))]
    damaged = [problems[number].reason for number in sorted(problems)]
    check, normalize = slide.tiles.check, slide.opened.normalize
    measures = None if check is None else _judge(room, tile_fates, check)
    if normalize is not None:
        for fate, pixels in zip(tile_fates, room, strict=True):
            if fate == Fate.KEPT:
                pixels[...] = normalize(pixels)
    if prepare is not None:
        prepare(room)
    features = None
    if encode is not None and Fate.KEPT in tile_fates:
        features = encode(kept_tiles(room, tile_fates))
        if np.may_share_memory(features, room):
            features = features.copy()
    return ReadUnit(tile_fates, damaged, measures, features)


def kept_tiles(tiles: TileBatch, tile_fates: Sequence[int]) -> UInt8[np.ndarray, "kept height width 3"]:
    """Return the kept tiles: all as they are, or a copy of some."""
    kept = np.equal(tile_fates, Fate.KEPT)
    return tiles if kept.all() else tiles[kept]


def _judge(tiles: TileBatch, tile_fates: list[int], check: QualityCheck) -> TileMeasures:
    """Measure the tiles that could be read, enter the fates of those, and return the kept ones' measures."""
    readable = [index for index, fate in enumerate(tile_fates) if fate == Fate.KEPT]
    measures = measure_tiles(tiles if len(readable) == len(tiles) else tiles[readable], check)
    found = fates(measures, check)
    for index, fate in zip(readable, found.tolist(), strict=True):
        tile_fates[index] = fate
    return TileMeasures(*(column[found == Fate.KEPT] for column in measures))


def _in_order_of_coords(found: EmbeddedTiles, order: Int64[np.ndarray, "tiles"]) -> EmbeddedTiles:
    """Undo the order of reading in all but `features` and `kept`, which lie in that of the coordinates."""
    if (np.diff(order) > 0).all():
        return found
    in_order = np.empty_like(found.fates)
    in_order[order] = found.fates
    rows = np.argsort(order[found.fates == Fate.KEPT])
    others = np.argsort(order[found.fates == Fate.DAMAGED])
    return found._replace(
        damaged=tuple(found.damaged[row] for row in others),
        fates=in_order,
        measures=found.measures and TileMeasures(*(column[rows] for column in found.measures)),
    )

"""Tiles of one slide through an encoder: threads read ahead, order is kept, bad tiles are left out.

Threads, not processes: OpenSlide, OpenCV and JPEG decoders release the interpreter lock, so both scale alike,
and threads start in microseconds where a process first imports everything anew, and share what they decode.
Tiles are read row by row of the slide, into the very array that the encoder gets. Features go straight into
the one array that is returned, in the type in which they are stored: of a large slide they are the most that
is held.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Int64, UInt8

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.shapes import Coords, FeatureArray, Pixels, TileBatch
from wsi_kd.features.encoders import Encoder
from wsi_kd.features.feature_rows import FeatureRows
from wsi_kd.features.quality import Fate, QualityCheck, TileMeasures, fates, measure_tiles

READ_TILES = 16
"""Tiles that a thread reads at a time: few, so that little waits and short slides use all threads."""
UNITS_AHEAD = 3
"""Units of `READ_TILES` a thread that may be read before they are encoded: a bound on memory."""

TileReader = Callable[[int, int, Pixels], object]
"""Reads the tile at x, y (level-0 px) into an array, on any thread; raises SlideProblem for a damaged one."""


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


class _Unit(NamedTuple):
    """A few tiles of one batch: where they are, and the rows of the batch that they are read into."""

    coords: Coords
    pixels: TileBatch
    batch: TileBatch | None
    """The whole batch, with its last unit: then it can be encoded."""


class _Read(NamedTuple):
    """A unit after reading."""

    fates: list[int]
    damaged: list[str]
    measures: TileMeasures | None
    """Of the kept tiles."""
    batch: TileBatch | None
    features: FeatureArray | None
    """Of its readable tiles, where the encoder works in the threads."""


def embed_tiles(
    read: TileReader,
    coords: Coords,
    encoder: Encoder,
    *,
    tile_px: int,
    batch_size: int,
    workers: int,
    check: QualityCheck | None = None,
    normalize: Callable[[Pixels], Pixels] | None = None,
    dtype: str | None = None,
    on_tiles: Callable[[int], None] = lambda _: None,
) -> EmbeddedTiles:
    """Read and encode the tiles at `coords`.

    The result does not depend on `workers`: batches are the next `batch_size` tiles, without those left
    out (damaged ones, and by `check`).

    Args:
        read: reads one tile.
        coords: where the tiles are.
        encoder: makes the features; the array it gets is used again after the call.
        tile_px: edge of a tile as it is read.
        batch_size: tiles a call of the encoder.
        workers: reading threads; 0 reads in the calling thread.
        check: what is measured on each tile and which are left out for it; default: nothing, none.
        normalize: changes the stains of a tile, after all else has looked at it; called by the threads.
        dtype: type to which features are rounded, but for uint8, which are pixels; default: the encoder's.
            What it does not hold becomes infinite, and `largest` tells.
        on_tiles: told how many more tiles have been read.

    Raises:
        SlideProblem: the slide cannot be read at all.
    """
    tile_fates: list[int] = []
    damaged: list[str] = []
    measures: list[TileMeasures] = []
    rows = FeatureRows(len(coords), dtype)
    order = np.lexsort((coords[:, 0], coords[:, 1]))
    size = _unit_size(len(coords), workers)
    spare: list[TileBatch] = []
    batch = size if encoder.encodes_in_threads else batch_size
    units = _units(coords[order], tile_px, unit=size, batch=batch, spare=spare)
    with _opencv_on_one_thread():
        work = partial(_read_unit, read=read, encoder=encoder, check=check, normalize=normalize)
        for unit in _ahead(work, units, workers=workers):
            tile_fates.extend(unit.fates)
            damaged.extend(unit.damaged)
            if unit.measures is not None:
                measures.append(unit.measures)
            on_tiles(len(unit.fates))
            made = _features_of(unit, encoder, tile_fates)
            if unit.batch is not None:
                if made is not None:
                    rows.put(_kept_places(order, tile_fates, last=len(unit.batch)), made)
                spare.append(unit.batch)
    found = np.array(tile_fates, np.int64)
    kept = np.empty(len(found), bool)
    kept[order] = found == Fate.KEPT
    measured = TileMeasures(*map(np.concatenate, zip(*measures, strict=True))) if measures else None
    return _in_order_of_coords(
        EmbeddedTiles(
            rows.joined(kept, encoder.feature_dim), kept, tuple(damaged), found, measured, rows.largest
        ),
        order,
    )


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


@contextmanager
def _opencv_on_one_thread() -> Iterator[None]:
    """Keep OpenCV from sharing out single tiles: tiles are shared out among threads already."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _unit_size(tiles: int, workers: int) -> int:
    return max(1, min(READ_TILES, -(-tiles // max(workers, 1))))


def _units(coords: Coords, tile_px: int, *, unit: int, batch: int, spare: list[TileBatch]) -> Iterator[_Unit]:
    """Cut the tiles into batches and those into units.

    A batch's array comes with its first unit: a spare one, or a new one, whose every page costs a fault.
    """
    for start in range(0, len(coords), batch):
        part = coords[start : start + batch]
        pixels = spare.pop() if spare else np.empty((batch, tile_px, tile_px, 3), np.uint8)
        pixels = pixels[: len(part)]
        for first in range(0, len(part), unit):
            rows = slice(first, first + unit)
            yield _Unit(part[rows], pixels[rows], pixels if first + unit >= len(part) else None)


def _ahead(work: Callable[[_Unit], _Read], units: Iterator[_Unit], *, workers: int) -> Iterator[_Read]:
    """Yield the units after reading, in order; threads keep `UNITS_AHEAD` units each running or done."""
    if workers == 0:
        yield from map(work, units)
        return
    waiting: deque[Future[_Read]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="read-tiles")
    try:
        waiting.extend(pool.submit(work, unit) for unit in itertools.islice(units, workers * UNITS_AHEAD))
        while waiting:
            done = waiting.popleft().result()
            waiting.extend(pool.submit(work, unit) for unit in itertools.islice(units, 1))
            yield done
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read_unit(
    unit: _Unit,
    *,
    read: TileReader,
    encoder: Encoder,
    check: QualityCheck | None,
    normalize: Callable[[Pixels], Pixels] | None,
) -> _Read:
    tile_fates: list[int] = []
    damaged: list[str] = []
    for (x, y), pixels in zip(unit.coords.tolist(), unit.pixels, strict=True):
        try:
            read(x, y, pixels)
        except SlideProblem as problem:
            damaged.append(problem.reason)
            tile_fates.append(Fate.DAMAGED)
        else:
            tile_fates.append(Fate.KEPT)
    measures = None if check is None else _judge(unit.pixels, tile_fates, check)
    if normalize is not None:
        for fate, pixels in zip(tile_fates, unit.pixels, strict=True):
            if fate == Fate.KEPT:
                pixels[...] = normalize(pixels)
    features = None
    if encoder.encodes_in_threads and Fate.KEPT in tile_fates:
        features = encoder(_kept(unit.pixels, tile_fates))
    return _Read(tile_fates, damaged, measures, unit.batch, features)


def _features_of(unit: _Read, encoder: Encoder, tile_fates: list[int]) -> FeatureArray | None:
    """Return the features that are due with a unit: its own, or those of the batch that it completes."""
    if encoder.encodes_in_threads or unit.batch is None:
        return unit.features
    of_batch = tile_fates[-len(unit.batch) :]
    return encoder(_kept(unit.batch, of_batch)) if Fate.KEPT in of_batch else None


def _kept_places(
    order: Int64[np.ndarray, "tiles"], tile_fates: list[int], *, last: int
) -> Int64[np.ndarray, "kept"]:
    """Tell where the kept ones of the last tiles that were read stand among the coordinates."""
    places = order[: len(tile_fates)][-last:]
    return places[np.equal(tile_fates[-last:], Fate.KEPT)]


def _judge(tiles: TileBatch, tile_fates: list[int], check: QualityCheck) -> TileMeasures:
    """Measure the tiles that could be read, enter the fates of those, and return the kept ones' measures."""
    readable = [index for index, fate in enumerate(tile_fates) if fate == Fate.KEPT]
    measures = measure_tiles([tiles[index] for index in readable], check)
    found = fates(measures, check)
    for index, fate in zip(readable, found.tolist(), strict=True):
        tile_fates[index] = fate
    return TileMeasures(*(column[found == Fate.KEPT] for column in measures))


def _kept(tiles: TileBatch, tile_fates: list[int]) -> UInt8[np.ndarray, "kept height width 3"]:
    kept = np.asarray(tile_fates) == Fate.KEPT
    return tiles if kept.all() else tiles[kept]

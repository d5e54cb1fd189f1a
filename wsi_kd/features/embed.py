"""Tiles of one slide through an encoder: threads read ahead, order is kept, damaged tiles are left out.

Threads, not processes: OpenSlide and OpenCV release the interpreter lock, so both scale alike, and threads
start in microseconds where a process first imports everything anew. Each thread opens a slide handle of its
own.
"""

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.shapes import Coords, FeatureArray, Pixels
from wsi_kd.features.encoders import Encoder

READ_TILES = 16
"""Tiles that a thread reads at a time: few, so that little waits and short slides use all threads."""
UNITS_AHEAD = 3
"""Units of `READ_TILES` a thread that may be read before they are encoded: the bound on memory."""

TileReader = Callable[[int, int], Pixels]
"""Reads the tile at x, y (level-0 px), always of one shape; raises SlideProblem for a damaged region."""
OpenTiles = Callable[[], AbstractContextManager[TileReader]]
"""Opens a reader for one thread; raises SlideProblem where the slide cannot be opened."""


class EmbeddedTiles(NamedTuple):
    """Features of the tiles that could be read, in the order of the coordinates."""

    features: FeatureArray
    kept: Bool[np.ndarray, "tiles"]
    """Which of the tiles those are."""
    damaged: tuple[str, ...]
    """Why each of the others could not be read."""


class _Unit(NamedTuple):
    """A few tiles after reading: pixels, or features where the encoder works in the threads."""

    values: list[np.ndarray]
    kept: list[bool]
    damaged: list[str]


def embed_tiles(
    open_tiles: OpenTiles,
    coords: Coords,
    encoder: Encoder,
    *,
    batch_size: int,
    workers: int,
    on_tiles: Callable[[int], None] = lambda _: None,
) -> EmbeddedTiles:
    """Read and encode the tiles at `coords`.

    The result does not depend on `workers`: batches are always the next `batch_size` readable tiles.

    Args:
        open_tiles: opens the slide; called once a thread.
        coords: where the tiles are.
        encoder: makes the features.
        batch_size: tiles a call of the encoder.
        workers: reading threads; 0 reads in the calling thread.
        on_tiles: told how many more tiles have been read.

    Raises:
        SlideProblem: the slide cannot be opened.
    """
    kept: list[bool] = []
    damaged: list[str] = []

    def values() -> Iterator[np.ndarray]:
        for unit in _units(open_tiles, coords, encoder, workers=workers):
            kept.extend(unit.kept)
            damaged.extend(unit.damaged)
            on_tiles(len(unit.kept))
            yield from unit.values

    encode = _as_rows if encoder.encodes_in_threads else encoder
    with _opencv_on_one_thread():
        features = [encode(np.stack(batch)) for batch in _batches(values(), batch_size)]
    joined = np.concatenate(features) if features else np.zeros((0, encoder.feature_dim), np.float32)
    return EmbeddedTiles(joined, np.array(kept, bool), tuple(damaged))


@contextmanager
def _opencv_on_one_thread() -> Iterator[None]:
    """Keep OpenCV from sharing out single tiles: tiles are shared out among threads already."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _units(open_tiles: OpenTiles, coords: Coords, encoder: Encoder, *, workers: int) -> Iterator[_Unit]:
    """Yield the tiles unit by unit in order, read ahead by `workers` threads."""
    each = max(1, min(READ_TILES, -(-len(coords) // max(workers, 1))))
    parts: list[np.ndarray] = [coords[start : start + each] for start in range(0, len(coords), each)]
    with ExitStack() as handles:
        opened = _one_handle_a_thread(open_tiles, handles)

        def work(part: Coords) -> _Unit:
            return _read_unit(opened(), part, encoder)

        if workers == 0:
            yield from map(work, parts)
            return
        with ThreadPoolExecutor(workers, thread_name_prefix="read-tiles") as pool:
            yield from _ahead(pool, work, parts, depth=workers * UNITS_AHEAD)


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[np.ndarray], _Unit], parts: list[np.ndarray], *, depth: int
) -> Iterator[_Unit]:
    """Keep `depth` calls running or done, and yield their results in order."""
    waiting: deque[Future[_Unit]] = deque()
    todo = iter(parts)
    try:
        waiting.extend(pool.submit(work, part) for part in itertools.islice(todo, depth))
        while waiting:
            unit = waiting.popleft().result()
            waiting.extend(pool.submit(work, part) for part in itertools.islice(todo, 1))
            yield unit
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _one_handle_a_thread(open_tiles: OpenTiles, handles: ExitStack) -> Callable[[], TileReader]:
    """Return a function that opens the slide on each thread's first call; `handles` closes them all."""
    own = threading.local()
    lock = threading.Lock()

    def opened() -> TileReader:
        if not hasattr(own, "read"):
            opening = open_tiles()
            read = opening.__enter__()
            with lock:
                handles.push(opening)
            own.read = read
        reader: TileReader = own.read
        return reader

    return opened


def _read_unit(read: TileReader, part: Coords, encoder: Encoder) -> _Unit:
    tiles: list[Pixels] = []
    kept: list[bool] = []
    damaged: list[str] = []
    for x, y in part.tolist():
        try:
            tiles.append(read(x, y))
        except SlideProblem as problem:
            damaged.append(problem.reason)
            kept.append(False)
        else:
            kept.append(True)
    values: list[np.ndarray] = list(tiles)
    if tiles and encoder.encodes_in_threads:
        values = list(encoder(np.stack(tiles)))
    return _Unit(values, kept, damaged)


def _batches(values: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    values = iter(values)
    while batch := list(itertools.islice(values, size)):
        yield batch


def _as_rows(rows: FeatureArray) -> FeatureArray:
    """Stand in for the encoder where the threads have encoded already."""
    return rows

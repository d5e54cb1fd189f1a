"""The line of threads and batches behind `features.embed`."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from threading import local
from typing import NamedTuple, TypeVar

import numpy as np

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.shapes import FeatureArray, TileBatch
from wsi_kd.features.encoders import Encoder, PreparedEncoder
from wsi_kd.features.quality import Fate
from wsi_kd.features.tile_units import (
    EmbeddedTiles,
    ReadUnit,
    SlideInWork,
    SlideTiles,
    kept_tiles,
    read_unit,
)

READ_TILES = 16
"""Tiles that a thread reads at a time: few, so that little waits and short slides use all threads."""
UNITS_AHEAD = 3
"""Units of `READ_TILES` a thread that may be read before they are encoded: a bound on memory."""
OPENED_AHEAD = 1
"""Slides that are opened before their turn."""
BEGUN_BATCHES = 2
"""Batches at a `PreparedEncoder` at once: it may copy one while it computes the other."""

_Result = TypeVar("_Result")


class _Batch:
    """Tiles of one slide or several on their way to the encoder."""

    def __init__(self, pixels: TileBatch) -> None:
        self.pixels = pixels
        self.planned = 0
        """Rows that units were given."""
        self.parts: list[tuple[SlideInWork, list[int]]] = []
        """Whose tiles were read into the next rows, and their fates."""


class _Unit(NamedTuple):
    """A few tiles that a thread reads."""

    slide: SlideInWork
    corners: list[tuple[int, int]]
    batch: _Batch | None
    """None where the encoder works in the threads."""
    first_row: int


_Event = _Unit | _Batch | SlideInWork | None
"""What comes next: tiles to read, a batch without further tiles, a slide without further tiles; or nothing
yet, as the next slide is still being opened."""


class EmbedLine:
    """Threads, arrays and batches that stay from slide to slide; see `features.embed`."""

    def __init__(self, encoder: Encoder, *, batch_size: int, workers: int, dtype: str | None) -> None:
        """Start `workers` threads, which `close` ends; 0: all is done by the thread that calls."""
        self._encoder = encoder
        self._prepared = encoder if isinstance(encoder, PreparedEncoder) else None
        self._batch_size = batch_size
        self._workers = workers
        self._dtype = dtype
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="read-tiles") if workers else None
        self._opening: Future[None] | None = None
        self._in_work: deque[SlideInWork] = deque()
        self._batch: _Batch | None = None
        """The one that units are planned for."""
        self._noted: _Batch | None = None
        """The one whose first tiles have been read."""
        self._begun: deque[tuple[_Batch, Callable[[], FeatureArray | None]]] = deque()
        self._spare: list[TileBatch] = []
        self._own = local()

    def run(
        self, slides: Iterable[SlideTiles], on_tiles: Callable[[int], None]
    ) -> Iterator[EmbeddedTiles | SlideProblem]:
        """Yield each slide's features, or why it cannot be opened, in order."""
        for event, unit in self._ahead(self._events(slides)):
            if isinstance(event, _Unit) and unit is not None:
                self._note(event, unit)
                on_tiles(len(unit.fates))
            elif isinstance(event, _Batch):
                self._begin(event)
            elif isinstance(event, SlideInWork):
                if event.fault is not None:
                    yield from self._ended()
                    raise event.fault
                event.close()
                event.is_read = True
            yield from self._finished()
        yield from self._ended()

    def close(self) -> None:
        """End the threads, then close what is still open."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        for slide in self._in_work:
            slide.close()

    def _ended(self) -> Iterator[EmbeddedTiles | SlideProblem]:
        """Encode all tiles that were read, and yield the slides that end with them."""
        if self._noted is not None:
            self._begin(self._noted)
        while self._begun:
            self._end_oldest()
        yield from self._finished()

    def _finished(self) -> Iterator[EmbeddedTiles | SlideProblem]:
        while self._in_work and self._in_work[0].is_done:
            slide = self._in_work.popleft()
            yield slide.problem or slide.found(self._encoder.feature_dim)

    def _ahead(self, events: Iterator[_Event]) -> Iterator[tuple[_Event, ReadUnit | None]]:
        """Yield events in order, units after reading; `UNITS_AHEAD` of them a thread run or are done."""
        waiting: deque[tuple[_Event, Future[ReadUnit] | None]] = deque()
        more = True
        while more or waiting:
            more = more and self._fill(waiting, events)
            if waiting:
                event, reading = waiting.popleft()
                unit = None if reading is None else reading.result()
                more = more and self._fill(waiting, events)
                yield event, unit
            elif more and self._opening is not None:
                wait([self._opening])

    def _fill(self, waiting: deque[tuple[_Event, Future[ReadUnit] | None]], events: Iterator[_Event]) -> bool:
        """Have more units read, up to the bound; return whether there will be further events."""
        most = max(1, self._workers * UNITS_AHEAD)
        while sum(reading is not None for _, reading in waiting) < most:
            try:
                event = next(events)
            except StopIteration:
                return False
            if event is None:
                return True
            reading = self._start(partial(self._read, event)) if isinstance(event, _Unit) else None
            waiting.append((event, reading))
        return True

    def _events(self, slides: Iterable[SlideTiles]) -> Iterator[_Event]:
        for slide, opening in self._opened(slides):
            while not opening.done():
                self._opening = opening
                yield None
            opening.result()
            if slide.opened is not None:
                yield from self._units(slide)
            yield slide

    def _opened(self, slides: Iterable[SlideTiles]) -> Iterator[tuple[SlideInWork, Future[None]]]:
        """Have slides opened before their turn."""
        ahead: deque[tuple[SlideInWork, Future[None]]] = deque()
        for tiles in slides:
            slide = SlideInWork(tiles, dtype=self._dtype)
            self._in_work.append(slide)
            ahead.append((slide, self._start(slide.open)))
            if len(ahead) > OPENED_AHEAD:
                yield ahead.popleft()
        yield from ahead

    def _units(self, slide: SlideInWork) -> Iterator[_Unit | _Batch]:
        """Cut the tiles of a slide into units that lie in one batch each."""
        corners = [(x, y) for x, y in slide.tiles.coords[slide.order].tolist()]
        size = max(1, min(READ_TILES, -(-len(corners) // max(self._workers, 1))))
        at = 0
        while at < len(corners):
            count = min(size, len(corners) - at)
            if self._encoder.encodes_in_threads:
                yield _Unit(slide, corners[at : at + count], None, 0)
            else:
                edge_px = self._prepared.prepared_px if self._prepared else slide.tiles.tile_px
                if self._batch is not None and self._batch.pixels.shape[1] != edge_px:
                    yield self._batch
                    self._batch = None
                batch = self._batch = self._batch or _Batch(self._batch_array(edge_px))
                first, count = batch.planned, min(count, self._batch_size - batch.planned)
                batch.planned += count
                yield _Unit(slide, corners[at : at + count], batch, first)
                if batch.planned == self._batch_size:
                    yield batch
                    self._batch = None
            at += count

    def _batch_array(self, edge_px: int) -> TileBatch:
        """Return an array that is free again, or a new one, whose every page costs a fault."""
        while self._spare:
            array = self._spare.pop()
            if array.shape[1] == edge_px:
                return array
        if self._prepared is not None:
            return self._prepared.batch_array(self._batch_size)
        return np.empty((self._batch_size, edge_px, edge_px, 3), np.uint8)

    def _read(self, unit: _Unit) -> ReadUnit:
        slide, count = unit.slide, len(unit.corners)
        if unit.batch is None:
            room = self._room(slide.tiles.tile_px)[:count]
            return read_unit(slide, unit.corners, room, encode=self._encoder)
        rows = unit.batch.pixels[unit.first_row : unit.first_row + count]
        if self._prepared is None or self._prepared.as_read_px == slide.tiles.tile_px:
            return read_unit(slide, unit.corners, rows)
        room = self._room(slide.tiles.tile_px)[:count]
        return read_unit(slide, unit.corners, room, prepare=partial(self._prepared.prepare, out=rows))

    def _room(self, tile_px: int) -> TileBatch:
        """Return this thread's array for the tiles of a unit."""
        room: TileBatch | None = getattr(self._own, "room", None)
        if room is None or room.shape[1] != tile_px:
            room = self._own.room = np.empty((READ_TILES, tile_px, tile_px, 3), np.uint8)
        return room

    def _note(self, event: _Unit, unit: ReadUnit) -> None:
        event.slide.add(unit)
        if event.batch is None:
            event.slide.put(unit.fates, unit.features)
        else:
            event.batch.parts.append((event.slide, unit.fates))
            self._noted = event.batch

    def _begin(self, batch: _Batch) -> None:
        """Hand a batch to the encoder, and end older ones."""
        self._noted = None
        tile_fates = [fate for _, fates in batch.parts for fate in fates]
        tiles = batch.pixels[: len(tile_fates)]
        result: Callable[[], FeatureArray | None]
        if Fate.KEPT not in tile_fates:
            result = lambda: None  # noqa: E731
        elif self._prepared is None:
            result = partial(_same, self._encoder(kept_tiles(tiles, tile_fates)))
        else:
            kept = kept_tiles(tiles, tile_fates)
            if kept is not tiles:
                batch.pixels[: len(kept)] = kept
            result = self._prepared.begin(batch.pixels, len(kept))
        self._begun.append((batch, result))
        while len(self._begun) > (0 if self._prepared is None else BEGUN_BATCHES - 1):
            self._end_oldest()

    def _end_oldest(self) -> None:
        """Wait for a batch and share its features out among its slides."""
        batch, result = self._begun.popleft()
        features, at = result(), 0
        for slide, fates in batch.parts:
            count = fates.count(Fate.KEPT)
            slide.put(fates, None if features is None else features[at : at + count])
            at += count
        self._spare.append(batch.pixels)

    def _start(self, work: Callable[[], _Result]) -> Future[_Result]:
        """Have a thread do it; without threads it is done at once."""
        if self._pool is not None:
            return self._pool.submit(work)
        done: Future[_Result] = Future()
        done.set_result(work())
        return done


def _same(features: FeatureArray) -> FeatureArray:
    return features

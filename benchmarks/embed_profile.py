"""Where a tile's time goes before the encoder: reading, measuring, resizing, and the rest of the line."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np

from bench_record import Value
from embed_parts import CHECK, TILE_PX, Speed, Taking, TakingTiles, in_turns, source_of, whole_line
from wsi_kd.core.shapes import Coords, TileBatch
from wsi_kd.features.embed_line import READ_TILES
from wsi_kd.features.encoders import Encoder, PreparedEncoder
from wsi_kd.features.quality import measure_tiles

READ, MEASURE, RESIZE, REST, LINE = "read (decode)", "measure", "resize", "rest", "the line without encoder"
PROFILE_COLUMNS: Final = {"encoder": "", "part": "", "us a tile (processor)": ",.0f", "share": ".2f"}


def profile_rows(
    name: str, encoder: Encoder, *, slide: Path, coords: Coords, workers: int, turns: int
) -> Iterator[list[Value]]:
    """Measure each part by itself, in units as threads read them, and the whole line.

    A tile is decoded where it is measured and, where it is not resized, encoded: nothing is copied. What the
    line takes beyond the parts is the rest: handing tiles from thread to thread, keeping count, rows of
    features.
    """
    taking = Taking(encoder) if isinstance(encoder, PreparedEncoder) else TakingTiles()
    parts = {READ: _reading(slide, coords), MEASURE: _measuring(slide, coords)}
    if isinstance(taking, PreparedEncoder) and taking.as_read_px != TILE_PX:
        parts[RESIZE] = _resizing(slide, coords, taking)
    parts[LINE] = whole_line([slide], coords, taking, workers=workers)
    for work in parts.values():
        work()
    yield from laid_out(name, in_turns(parts, turns=turns))


def laid_out(name: str, found: Mapping[str, Sequence[Speed]]) -> Iterator[list[Value]]:
    """Return microseconds of the processor a tile and shares of the whole line, medians over the turns."""
    spent = {part: 1e6 / median(speed.processor for speed in speeds) for part, speeds in found.items()}
    whole = spent.pop(LINE)
    spent[REST] = whole - sum(spent.values())
    spent[LINE] = whole
    yield from ([name, part, microseconds, microseconds / whole] for part, microseconds in spent.items())


def _reading(slide: Path, coords: Coords) -> Callable[[], int]:
    def read() -> int:
        with source_of(slide, coords) as source:
            room = np.empty((READ_TILES, TILE_PX, TILE_PX, 3), np.uint8)
            for corners in _units(coords):
                source.read_many(corners, room[: len(corners)])
        return len(coords)

    return read


def _measuring(slide: Path, coords: Coords) -> Callable[[], int]:
    tiles = _tiles(slide, coords)

    def measure() -> int:
        for at in range(0, len(tiles), READ_TILES):
            measure_tiles(tiles[at : at + READ_TILES], CHECK)
        return len(tiles)

    return measure


def _resizing(slide: Path, coords: Coords, encoder: PreparedEncoder) -> Callable[[], int]:
    tiles = _tiles(slide, coords)
    batch = encoder.batch_array(READ_TILES)

    def resize() -> int:
        for at in range(0, len(tiles), READ_TILES):
            few = tiles[at : at + READ_TILES]
            encoder.prepare(few, batch[: len(few)])
        return len(tiles)

    return resize


def _tiles(slide: Path, coords: Coords) -> TileBatch:
    tiles = np.empty((len(coords), TILE_PX, TILE_PX, 3), np.uint8)
    with source_of(slide, coords) as source:
        for number, corners in enumerate(_units(coords)):
            at = number * READ_TILES
            source.read_many(corners, tiles[at : at + len(corners)])
    return tiles


def _units(coords: Coords) -> Iterator[list[tuple[int, int]]]:
    corners = [(x, y) for x, y in coords.tolist()]
    return (corners[at : at + READ_TILES] for at in range(0, len(corners), READ_TILES))

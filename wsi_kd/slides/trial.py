"""Reads all of one slide, as the only work of a process that may die of it."""

import resource
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from wsi_kd.slides.info import describe_file
from wsi_kd.slides.protocol import SlideReader
from wsi_kd.slides.pyramid import BLOCK_PX
from wsi_kd.slides.reader import open_slide
from wsi_kd.slides.stored_tiles import open_stored_tiles


def read_whole(path: Path, *, budget_bytes: int) -> None:
    """Read header, profile and every pixel by all the ways that the steps do, the coarsest level first.

    What the libraries tell of, an error or damage, is no matter here: it has a status of its own.

    Args:
        path: the slide.
        budget_bytes: memory that reading may ask for beyond what the process holds already.

    Raises:
        MemoryError: it asked for more.
    """
    bound_memory(budget_bytes)
    _attempt(lambda: _read_with(path))


def bound_memory(budget_bytes: int) -> None:
    """Let this process ask for so many bytes of address space beyond what it holds already."""
    with suppress(ValueError):  # a lower limit holds already
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_held_bytes() + budget_bytes, hard))


def _read_with(path: Path) -> None:
    with open_slide(path, background="metadata") as reader:
        _attempt(lambda: describe_file(reader))
        for read in _regions(reader):
            _attempt(read)
        for level in reversed(range(len(reader.level_dimensions))):
            _attempt(partial(_decode_stored, reader, level))


def _attempt(work: Callable[[], object]) -> None:
    """Let pass what a library tells, but for a lack of memory."""
    try:
        work()
    except MemoryError:
        raise
    except Exception:
        return


def _regions(reader: SlideReader) -> Iterator[Callable[[], object]]:
    for level in reversed(range(len(reader.level_dimensions))):
        width, height = reader.level_dimensions[level]
        downsample = reader.level_downsamples[level]
        for top in range(0, height, BLOCK_PX):
            for left in range(0, width, BLOCK_PX):
                yield partial(
                    reader.read_region,
                    x_level0_px=int(left * downsample),
                    y_level0_px=int(top * downsample),
                    level=level,
                    width_px=min(BLOCK_PX, width - left),
                    height_px=min(BLOCK_PX, height - top),
                )


def _decode_stored(reader: SlideReader, level: int) -> None:
    stored = open_stored_tiles(reader, level)
    try:
        for index in range(len(stored.grid.sizes)):
            _attempt(partial(stored.decode, index))
    finally:
        stored.close()


def _held_bytes() -> int:
    """Address space of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()

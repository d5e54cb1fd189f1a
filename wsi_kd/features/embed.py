"""Tiles of a job's slides through an encoder, in one line: threads read ahead, batches span slides.

Threads, not processes: OpenSlide, OpenCV and JPEG decoders release the interpreter lock, so both scale alike,
and threads start in microseconds where a process first imports everything anew, and share what they decode.
They stay from the first slide to the last; the next slide is opened while the tiles of this one are read, so
that small slides follow each other without a pause. Tiles are read row by row of a slide and resized for the
encoder while they are in a thread's cache. A batch is always full, but for a job's last: its tiles may be of
several slides. Features go straight into the one array of their slide, in the type in which they are stored:
of a large slide they are the most that is held.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext

import cv2

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.memory import freed_memory_kept
from wsi_kd.core.shapes import Coords, Pixels
from wsi_kd.features.embed_line import EmbedLine
from wsi_kd.features.encoders import Encoder, PreparedEncoder
from wsi_kd.features.quality import QualityCheck
from wsi_kd.features.tile_units import EmbeddedTiles, OpenedTiles, SlideTiles, TileReader


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
    """Read and encode the tiles at `coords` of one slide; see `embed_slides`, which it calls.

    Args:
        read: reads tiles.
        coords: where the tiles are.
        encoder: makes the features.
        tile_px: edge of a tile as it is read.
        batch_size: tiles a call of the encoder.
        workers: reading threads; 0 reads in the calling thread.
        check: what is measured on each tile and which are left out for it; default: nothing, none.
        normalize: changes the stains of a tile, after all else has looked at it; called by the threads.
        dtype: type to which features are rounded.
        on_tiles: told how many more tiles have been read.
    """
    opened = OpenedTiles(read, normalize)
    slide = SlideTiles(coords, tile_px, lambda: nullcontext(opened), check)
    found = embed_slides(
        [slide], encoder, batch_size=batch_size, workers=workers, dtype=dtype, on_tiles=on_tiles
    )
    with closing(found):
        (only,) = found
    if isinstance(only, SlideProblem):
        raise only
    return only


def embed_slides(
    slides: Iterable[SlideTiles],
    encoder: Encoder,
    *,
    batch_size: int,
    workers: int,
    dtype: str | None = None,
    on_tiles: Callable[[int], None] = lambda _: None,
) -> Generator[EmbeddedTiles | SlideProblem, None, None]:
    """Read and encode the tiles of slides; yield each slide's features, or why it cannot be opened, in order.

    A slide's features depend neither on `workers` nor on the slides beside it, as far as the encoder gives
    a tile the same features at any place of a batch (`NetworkEncoder` does). Tiles left out (damaged ones,
    and by `check`) are not encoded. Close the iterator where it is not used up.

    Args:
        slides: asked for one by one, a little before their turn.
        encoder: makes the features; the array it gets is used again after the call.
        batch_size: tiles a call of the encoder; one that works in the threads gets up to `READ_TILES`.
        workers: reading threads; 0 reads in the calling thread.
        dtype: type to which features are rounded, but for uint8, which are pixels; default: the encoder's.
            What it does not hold becomes infinite, and `largest` tells.
        on_tiles: told how many more tiles have been read.
    """
    line = EmbedLine(encoder, batch_size=batch_size, workers=workers, dtype=dtype)
    with _opencv_on_one_thread(), _intermediate_results_kept(encoder):
        try:
            yield from line.run(slides, on_tiles)
        finally:
            line.close()


@contextmanager
def _opencv_on_one_thread() -> Iterator[None]:
    """Keep OpenCV from sharing out single tiles: tiles are shared out among threads already."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _intermediate_results_kept(encoder: Encoder) -> AbstractContextManager[None]:
    """Keep what a network frees for its next pass: up to a thousand pages a tile would be cleared anew."""
    return freed_memory_kept() if isinstance(encoder, PreparedEncoder) else nullcontext()

"""Ways to read the tiles of one slide, each behind the same two calls: open it, then read all tiles of a job.

What a library needs to be imported stays in its own function: one that is not installed is told, not missed.
"""

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from pathlib import Path
from threading import local
from typing import Any, Final, NamedTuple

import imagecodecs
import numpy as np
import openslide
import simplejpeg
import torch
from torch.utils.data import DataLoader, Dataset

from wsi_kd.core.shapes import Coords, FeatureArray, Pixels, TileBatch
from wsi_kd.features.embed import embed_tiles
from wsi_kd.features.embed_line import READ_TILES
from wsi_kd.slides.pyramid import ReadPlan
from wsi_kd.slides.reader import open_slide
from wsi_kd.slides.stored_tiles import open_stored_tiles
from wsi_kd.slides.tile_source import TileSource, open_tile_source

BATCH: Final = 64
CUCIM_BATCH: Final = 32


class Job(NamedTuple):
    """What is read: tiles of level 0 without rescaling."""

    path: Path
    coords: Coords
    tile_px: int
    workers: int


Read = Callable[[], int]
"""Reads all tiles of the job; returns how many of the job's size they make."""
Way = Callable[[Job], AbstractContextManager[Read]]


class _NoEncoder:
    """Takes tiles and gives one number each: what is left is reading."""

    name, feature_dim, input_px, weights_hash = "none", 1, None, ""
    feature_names: tuple[str, ...] = ()
    settings: dict[str, Any] = {}  # noqa: RUF012  # never written to
    encodes_in_threads = False

    def __call__(self, tiles: TileBatch) -> FeatureArray:
        return tiles[:, 0, 0, :1].astype(np.float32)


@contextmanager
def ours(job: Job) -> Iterator[Read]:
    """Tile by tile, dropped like those of the others."""
    with _source(job) as source:

        def part(corners: Sequence[tuple[int, int]]) -> None:
            for x, y in corners:
                source.read(x, y)

        def read() -> int:
            corners = [(x, y) for x, y in job.coords.tolist()]
            _in_threads(part, corners, job.workers)
            return len(corners)

        yield read


@contextmanager
def ours_in_batches(job: Job) -> Iterator[Read]:
    """The line's own hot path, as `embed` runs it, with an encoder that does nothing."""
    with _source(job) as source:

        def read() -> int:
            threads = job.workers if job.workers > 1 else 0
            encoder, size_px = _NoEncoder(), job.tile_px
            found = embed_tiles(
                source.read_many, job.coords, encoder, tile_px=size_px, batch_size=BATCH, workers=threads
            )
            return len(found.features)

        yield read


@contextmanager
def openslide_loop(job: Job) -> Iterator[Read]:
    """A handle a thread, `read_region(...).convert("RGB")`, one tile after the other."""
    with _shared_out(job, partial(openslide.OpenSlide, job.path), _openslide_tile) as read:
        yield read


@contextmanager
def tiffslide_loop(job: Job) -> Iterator[Read]:
    """A handle a thread, pixels as an array."""
    tiffslide = importlib.import_module("tiffslide")

    def tile(slide: Any, corner: tuple[int, int], tile_px: int) -> Pixels:
        return np.asarray(slide.read_region(corner, 0, (tile_px, tile_px), as_array=True))

    with _shared_out(job, partial(tiffslide.TiffSlide, job.path), tile) as read:
        yield read


@contextmanager
def openslide_data_loader(job: Job) -> Iterator[Read]:
    """What CLAM and TRIDENT do: worker processes, each with its handle, and batches as tensors."""

    def read() -> int:
        loader = DataLoader(_SlideTiles(job), batch_size=BATCH, num_workers=job.workers)
        return sum(len(batch) for batch in loader)

    yield read


@contextmanager
def cucim(job: Job) -> Iterator[Read]:
    """CuCIM on the CPU; with several workers it reads ahead by itself."""
    slide = _cucim_image()(str(job.path))
    corners = [tuple(corner) for corner in job.coords.tolist()]
    size = (job.tile_px, job.tile_px)

    def read() -> int:
        if job.workers == 1:
            return sum(np.asarray(slide.read_region(corner, size, 0)).ndim > 0 for corner in corners)
        batches = slide.read_region(corners, size, 0, num_workers=job.workers, batch_size=CUCIM_BATCH)
        return sum(len(np.asarray(batch)) if batch.ndim > 3 else 1 for batch in batches)

    yield read


@contextmanager
def decode_limit(job: Job, *, decode: Callable[[bytes], Any] = simplejpeg.decode_jpeg) -> Iterator[Read]:
    """Decode the stored tiles that the job touches from memory, into arrays that are dropped."""
    with open_slide(job.path, background="metadata") as reader:
        with closing(open_stored_tiles(reader, 0)) as stored:
            grid = stored.grid
            streams = [stored.stream(index) for index in _touched(job, grid.columns, grid.edges)]
        area = grid.tile_width_px * grid.tile_height_px

    def part(streams: Sequence[bytes]) -> None:
        for stream in streams:
            decode(stream)

    def read() -> int:
        _in_threads(part, streams, job.workers)
        return round(len(streams) * area / job.tile_px**2)

    yield read


WAYS: Final[dict[str, Way]] = {
    "ours": ours,
    "ours, batches as embed": ours_in_batches,
    "openslide": openslide_loop,
    "openslide in a DataLoader": openslide_data_loader,
    "tiffslide": tiffslide_loop,
    "cucim": cucim,
    "limit (simplejpeg)": decode_limit,
    "limit (imagecodecs)": partial(decode_limit, decode=imagecodecs.jpeg8_decode),
}


@contextmanager
def _source(job: Job) -> Iterator[TileSource]:
    size = float(job.tile_px)
    plan = ReadPlan(0, job.tile_px, job.tile_px, size, size)
    with (
        open_slide(job.path, background="metadata") as reader,
        closing(open_tile_source(reader, plan, job.coords)) as source,
    ):
        if not source.how.startswith("stored"):
            raise RuntimeError(source.how)
        yield source


class _SlideTiles(Dataset[torch.Tensor]):
    """One slide's tiles; the handle is opened by the worker that reads first."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._slide: openslide.OpenSlide | None = None

    def __len__(self) -> int:
        return len(self._job.coords)

    def __getitem__(self, index: int) -> torch.Tensor:
        if self._slide is None:
            self._slide = openslide.OpenSlide(self._job.path)
        x, y = self._job.coords[index].tolist()
        return torch.from_numpy(_openslide_tile(self._slide, (x, y), self._job.tile_px).copy())


def _openslide_tile(slide: openslide.OpenSlide, corner: tuple[int, int], tile_px: int) -> Pixels:
    return np.asarray(slide.read_region(corner, 0, (tile_px, tile_px)).convert("RGB"))


@contextmanager
def _shared_out(
    job: Job, opened: Callable[[], Any], tile: Callable[[Any, tuple[int, int], int], Pixels]
) -> Iterator[Read]:
    """Read in threads, each with a handle of its own."""
    own, slides = local(), [opened()]

    def part(corners: Sequence[tuple[int, int]]) -> None:
        if not hasattr(own, "slide"):
            own.slide = opened()
            slides.append(own.slide)
        for corner in corners:
            tile(own.slide, corner, job.tile_px)

    def read() -> int:
        corners = [(x, y) for x, y in job.coords.tolist()]
        _in_threads(part, corners, job.workers)
        return len(corners)

    yield read
    for slide in slides:
        slide.close()


def _in_threads(work: Callable[[Sequence[Any]], None], items: Sequence[Any], workers: int) -> None:
    parts = [items[start : start + READ_TILES] for start in range(0, len(items), READ_TILES)]
    if workers == 1:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, parts))


def _touched(job: Job, columns: int, edges: tuple[int, int]) -> list[int]:
    """Return the stored tiles that hold a pixel of the job."""
    first = job.coords // edges[::-1]
    last = (job.coords + job.tile_px - 1) // edges[::-1]
    touched = {
        row * columns + column
        for (left, top), (right, bottom) in zip(first.tolist(), last.tolist(), strict=True)
        for row in range(top, bottom + 1)
        for column in range(left, right + 1)
    }
    return sorted(touched)


def _cucim_image() -> Any:
    """Import cuCIM's reader without the half of the package that wants a GPU's libraries."""
    if "cucim" not in sys.modules:
        found = importlib.util.find_spec("cucim")
        if found is None or found.submodule_search_locations is None:
            raise ModuleNotFoundError("No module named 'cucim'")
        package = types.ModuleType("cucim")
        package.__path__ = list(found.submodule_search_locations)
        sys.modules["cucim"] = package
    return importlib.import_module("cucim.clara").CuImage

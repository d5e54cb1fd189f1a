"""The parts of `embed`, each by itself and together: read, hand over, encode."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from threading import local
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import nn

from wsi_kd.core.device import choose_device, matmul_dtype
from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.memory import freed_memory_kept
from wsi_kd.core.shapes import Coords, FeatureArray, TileBatch
from wsi_kd.features.embed import embed_slides
from wsi_kd.features.embed_line import READ_TILES
from wsi_kd.features.encoders import Encoder, PreparedEncoder, StainTextureEncoder
from wsi_kd.features.network import create_architecture
from wsi_kd.features.network_encoder import CPU_PASS_TILES, NetworkEncoder
from wsi_kd.features.quality import QualityCheck
from wsi_kd.features.tile_units import OpenedTiles, SlideTiles
from wsi_kd.slides.pyramid import ReadPlan
from wsi_kd.slides.reader import open_slide
from wsi_kd.slides.tile_source import TileSource, open_tile_source

TILE_PX: Final = 256
BATCH: Final = 64
TRUNCATED: Final = "resnet50 truncated"
CHECK: Final = QualityCheck(
    tile_mpp=0.5,
    glass=(255, 255, 255),
    pen_colors=("green", "blue", "red", "black"),
    min_sharpness=0.0,
    max_pen_fraction=1.0,
    max_background_fraction=1.0,
)
"""What `embed` measures on every tile by default."""


class Speed(NamedTuple):
    """Tiles a second of one part in one turn, by the wall and by the processor."""

    wall: float
    processor: float


class Taking:
    """An encoder that takes batches as `like` does and encodes nothing: what is left is reading."""

    name, feature_dim, weights_hash = "none", 1, ""
    feature_names: tuple[str, ...] = ()
    settings: Mapping[str, Any] = MappingProxyType({})
    encodes_in_threads = False

    def __init__(self, like: PreparedEncoder) -> None:
        self.input_px = like.input_px
        self.prepared_px = like.prepared_px
        self.as_read_px = like.as_read_px
        self.batch_array = like.batch_array
        self.prepare = like.prepare

    def __call__(self, tiles: TileBatch) -> FeatureArray:
        """Give one number a tile."""
        return tiles[:, 0, 0, :1].astype(np.float32)

    def begin(self, batch: TileBatch, count: int) -> Callable[[], FeatureArray]:
        """Take a batch."""
        return lambda: self(batch[:count])


class TakingTiles(Taking):
    """The same in the reading threads, for encoders that work there."""

    encodes_in_threads = True

    def __init__(self) -> None:
        self.input_px = None


def build(name: str, *, precision: str, device: str) -> Encoder:
    """Build an encoder on random weights: they cost what others cost."""
    if name == "stain_texture":
        return StainTextureEncoder()
    place = choose_device(device)
    torch.manual_seed(0)
    found = create_architecture(
        "resnet50" if name == TRUNCATED else name, model_arguments={}, pretrained=False
    )
    if name == TRUNCATED:  # after its third block, 1,024 features: what CLAM takes of it
        found.network.layer4 = nn.Identity()
    return NetworkEncoder(
        name,
        found.network,
        input_px=found.input_px,
        pixel_mean=found.pixel_mean,
        pixel_std=found.pixel_std,
        model_arguments={},
        weights_hash="",
        dtype=matmul_dtype(precision, place),
        device=place,
    )


def timed(work: Callable[[], int]) -> Speed:
    """Run something that returns how many tiles it was."""
    wall, processor = time.perf_counter(), time.process_time()
    tiles = work()
    return Speed(tiles / (time.perf_counter() - wall), tiles / (time.process_time() - processor))


def grid(slide: Path, *, tiles: int) -> Coords:
    """Return the corners of the first tiles, row by row."""
    with open_slide(slide, background="metadata") as reader:
        axes = [
            np.arange(0, edge - TILE_PX + 1, TILE_PX, dtype=np.int64) for edge in reader.level_dimensions[0]
        ]
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes)], axis=1)[:tiles]


@contextmanager
def source_of(slide: Path, coords: Coords) -> Iterator[TileSource]:
    """Open a slide for tiles of level 0."""
    plan = ReadPlan(0, TILE_PX, TILE_PX, float(TILE_PX), float(TILE_PX))
    with (
        open_slide(slide, background="metadata") as reader,
        closing(open_tile_source(reader, plan, coords)) as source,
    ):
        yield source


def bare_reader(slide: Path, coords: Coords, *, workers: int) -> Callable[[], int]:
    """Read tiles into an array of each thread, and nothing else."""

    def read() -> int:
        own = local()
        with source_of(slide, coords) as source, ThreadPoolExecutor(workers) as pool:

            def part(corners: Sequence[tuple[int, int]]) -> None:
                if not hasattr(own, "tiles"):
                    own.tiles = np.empty((READ_TILES, TILE_PX, TILE_PX, 3), np.uint8)
                source.read_many(corners, own.tiles[: len(corners)])

            corners = [(x, y) for x, y in coords.tolist()]
            list(pool.map(part, [corners[at : at + READ_TILES] for at in range(0, len(corners), READ_TILES)]))
        return len(coords)

    return read


def whole_line(
    slides: Sequence[Path],
    coords: Coords,
    encoder: Encoder,
    *,
    workers: int,
    check: QualityCheck | None = CHECK,
) -> Callable[[], int]:
    """Run the line of `embed` over slides, the same tiles of each."""

    def run() -> int:
        def tiles_of(slide: Path) -> SlideTiles:
            @contextmanager
            def opening() -> Iterator[OpenedTiles]:
                with source_of(slide, coords) as source:
                    yield OpenedTiles(source.read_many)

            return SlideTiles(coords, TILE_PX, opening, check)

        done = 0
        line = embed_slides(
            map(tiles_of, slides), encoder, batch_size=BATCH, workers=workers, dtype="float16"
        )
        for found in line:
            if isinstance(found, SlideProblem):
                raise found
            done += len(found.features)
        return done

    return run


def embed_only(encoder: Encoder, *, tiles: int, workers: int) -> Callable[[], int]:
    """Encode random tiles from memory, as the line hands them over; freed memory is kept, as there."""
    rng = np.random.default_rng(0)
    if not isinstance(encoder, PreparedEncoder):
        pixels = rng.integers(0, 256, (READ_TILES, TILE_PX, TILE_PX, 3), dtype=np.uint8)
        units = max(1, tiles // READ_TILES)

        def in_threads() -> int:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(lambda _: encoder(pixels), range(units)))
            return units * READ_TILES

        return in_threads
    batch = encoder.batch_array(BATCH)
    batch[...] = rng.integers(0, 256, batch.shape, dtype=np.uint8)

    @freed_memory_kept()
    def in_batches() -> int:
        begun, batches = [], max(1, tiles // BATCH)
        for _ in range(batches):
            begun.append(encoder.begin(batch, BATCH))
            if len(begun) > 1:
                begun.pop(0)()
        begun.pop()()
        return batches * BATCH

    return in_batches


def bare_network(encoder: NetworkEncoder, *, tiles: int) -> Callable[[], int]:
    """Call the network alone on the CPU: normalized pixels, channels last, in passes that suit its cache."""
    network, dtype = encoder.network, encoder.dtype
    shape = (CPU_PASS_TILES, 3, encoder.prepared_px, encoder.prepared_px)
    pixels = torch.randn(shape).to(dtype).to(memory_format=torch.channels_last)
    passes = max(1, tiles // CPU_PASS_TILES)

    @freed_memory_kept()
    @torch.inference_mode()
    def run() -> int:
        for _ in range(passes):
            network(pixels)
        return passes * CPU_PASS_TILES

    return run


def in_turns(parts: dict[str, Callable[[], int]], *, turns: int) -> dict[str, list[Speed]]:
    """Let the parts take turns, so that a busy moment of the machine meets all of them."""
    found: dict[str, list[Speed]] = {name: [] for name in parts}
    for _ in range(turns):
        for name, work in parts.items():
            found[name].append(timed(work))
    return found


def ratios(above: Sequence[Speed], below: Sequence[Speed]) -> Speed:
    """Return the medians over the turns of the quotients within one turn."""
    pairs = list(zip(above, below, strict=True))
    return Speed(
        median(one.wall / other.wall for one, other in pairs),
        median(one.processor / other.processor for one, other in pairs),
    )


def start_up_ms(slide: Path, encoder: Encoder, *, slides: int, tiles: int, workers: int) -> float:
    """Return what a slide costs beyond its tiles: many small ones against as many tiles of one."""
    few, many = grid(slide, tiles=tiles), grid(slide, tiles=tiles * slides)
    costs = []
    for _ in range(3):
        seconds = []
        for work in (
            whole_line([slide] * slides, few, encoder, workers=workers),
            whole_line([slide], many, encoder, workers=workers),
        ):
            started = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - started)
        costs.append(1e3 * (seconds[0] - seconds[1]) / slides)
    return median(costs)

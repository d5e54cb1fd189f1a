"""What the viewer costs: a DeepZoom tile against openslide.deepzoom, many at once, and a slide's tile scores.

    OMP_NUM_THREADS=1 python benchmarks/viewer_tiles.py
    OMP_NUM_THREADS=1 python benchmarks/viewer_tiles.py --slide SLIDE --json results/viewer_tiles.json

Both read the same tiles, drawn at random from every level, and end with a JPEG of quality 85; medians over
them. A slide's first tile has the file opened for it, in a process of its own that is started then; `in one
process` is the same without such a process, which a damaged slide could end the viewer with.
"""

import argparse
import io
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import openslide
from openslide.deepzoom import DeepZoomGenerator

from wsi_kd.bags.manifest import rows_of_slides
from wsi_kd.core.files import publish_json
from wsi_kd.core.provenance import stamp
from wsi_kd.demo.pyramid import write_pyramid
from wsi_kd.inference.tables import TileTable
from wsi_kd.steps.view import view_slides
from wsi_kd.viewer.answers import scores_answer, to_json
from wsi_kd.viewer.deepzoom import OVERLAP_PX, TILE_PX
from wsi_kd.viewer.desk import Desk
from wsi_kd.viewer.nursery import Nursery
from wsi_kd.viewer.opened import JPEG_QUALITY

EDGE_PX, MPP = 8192, 0.5
THREADS = 8
Address = tuple[int, int, int]


def main() -> None:
    """Measure and print one line a figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slide", type=Path, help="a slide that OpenSlide reads; default: one is drawn")
    parser.add_argument("--tiles", type=int, default=200, help="tiles that are read")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        slide = options.slide or draw(Path(folder) / "drawn.tiff")
        found = {**time_tiles(slide, count=options.tiles), **time_scores()}
    for name, value in found.items():
        print(f"{name}: {value:.4g}")
    if options.json is not None:
        publish_json(options.json, {**stamp("benchmark", {}), "figures": found})


def draw(path: Path) -> Path:
    """Draw smooth tissue-colored noise, so that a tile weighs what a tissue's does."""
    rng = np.random.default_rng(0)
    small = rng.normal(0, 40, (EDGE_PX // 4, EDGE_PX // 4, 3)).astype(np.float32)
    pixels = cv2.resize(cv2.GaussianBlur(small, (0, 0), 1.5) * 3, (EDGE_PX, EDGE_PX)) + np.float32(
        (190, 130, 180)
    )
    write_pyramid(path, np.clip(pixels, 0, 255).astype(np.uint8), mpp=MPP, container="tiff")
    return path


def time_tiles(slide: Path, *, count: int) -> dict[str, float]:
    """Read the same tiles by the viewer and by openslide.deepzoom; then from the cache, then by threads."""
    viewed = view_slides(rows_of_slides([slide], None), title="")
    nursery, generator = Nursery(), deepzoom_of(slide)
    desks = [Desk(viewed, show_labels=False, nursery=of) for of in (nursery, None)]
    nursery.end(nursery.fork([]))  # wait until it is ready
    desk, alone = desks
    first, first_alone = (seconds(partial(one.tile, 0, level=0, column=0, row=0)) for one in desks)
    with desk.lend(0) as opened:
        zoom = opened.facts.zoom
    addresses = drawn_addresses(zoom.min_level, [zoom.tiles(z) for z in range(zoom.full_level + 1)], count)

    def ours(address: Address) -> object:
        return desk.tile(0, level=address[0], column=address[1], row=address[2])

    def in_one(address: Address) -> object:
        return alone.tile(0, level=address[0], column=address[1], row=address[2])

    def theirs(address: Address) -> object:
        buffer = io.BytesIO()
        generator.get_tile(address[0], address[1:]).convert("RGB").save(buffer, "JPEG", quality=JPEG_QUALITY)
        return buffer

    # In turn: whatever else the machine does then slows both.
    pairs = [[seconds(partial(read, address)) for read in (ours, theirs, in_one)] for address in addresses]
    by_viewer, by_generator, by_one = 1e3 * np.median(pairs, axis=0)
    cached = 1e3 * float(np.median([seconds(lambda address=address: ours(address)) for address in addresses]))
    fresh = Desk(viewed, show_labels=False, nursery=nursery)
    with ThreadPoolExecutor(THREADS) as threads:
        together = seconds(
            lambda: list(threads.map(lambda a: fresh.tile(0, level=a[0], column=a[1], row=a[2]), addresses))
        )
    for one in (*desks, fresh):
        one.close()
    nursery.close()
    return {
        "ms, first tile with opening": 1e3 * first,
        "ms, first tile in one process": 1e3 * first_alone,
        "ms a tile": float(by_viewer),
        "ms a tile in one process": float(by_one),
        "ms a tile, openslide.deepzoom": float(by_generator),
        "ratio to openslide.deepzoom": float(by_viewer / by_generator),
        "ms a tile, cached": cached,
        f"tiles/s, {THREADS} threads": len(addresses) / together,
    }


def deepzoom_of(slide: Path) -> DeepZoomGenerator:
    """Return openslide-python's own generator."""
    return DeepZoomGenerator(openslide.OpenSlide(slide), TILE_PX, OVERLAP_PX, limit_bounds=True)


def drawn_addresses(first: int, grids: Sequence[tuple[int, int]], count: int) -> list[Address]:
    """Draw level, column and row, levels evenly; no address twice."""
    rng = np.random.default_rng(0)
    found: dict[Address, None] = {}
    for _ in range(20 * count):
        level = int(rng.integers(first, len(grids)))
        found[(level, int(rng.integers(grids[level][0])), int(rng.integers(grids[level][1])))] = None
        if len(found) == count:
            break
    return list(found)


def time_scores() -> dict[str, float]:
    """Make the answer on the scores of large slides; their peak of Python's memory."""
    found = {}
    for tiles in (15_000, 100_000):
        rng = np.random.default_rng(0)
        table = TileTable(
            coords=rng.integers(0, 100_000, (tiles, 2)),
            tile_level0_px=256.0,
            attention=rng.dirichlet(np.ones(tiles)),
            branch_attention=None,
            evidence=rng.random((tiles, 1)),
            student_probability=rng.random((tiles, 1)),
            tile_labels=np.full(tiles, -1, np.int8),
        )
        classes = ("normal", "tumor")
        started = time.perf_counter()
        content = to_json(scores_answer(table, origin=(0, 0), classes=classes))
        found[f"s, scores of {tiles:,} tiles"] = time.perf_counter() - started
        found[f"MB, scores of {tiles:,} tiles"] = len(content) / 1e6
        tracemalloc.start()
        to_json(scores_answer(table, origin=(0, 0), classes=classes))
        found[f"MB of memory, scores of {tiles:,} tiles"] = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
    return found


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()

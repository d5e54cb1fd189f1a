"""What a slide's heatmap costs: seconds and the most memory held, at slides of several sizes.

    OMP_NUM_THREADS=1 python benchmarks/heatmap_time.py --json heatmap_time.json

Slides are drawn (benchmarks/large_slide.py), all tissue, with a pyramid; every tile of 256 px has a score of
a smooth field, as models give, or of noise, the worst that merging can meet. Memory is the process's resident
size above that before the part.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from infer_parts import forget_peak, resident_mib
from infer_time import EDGES_PX
from large_slide import MPP, draw_large_slide
from wsi_kd.core.provenance import package_versions
from wsi_kd.inference.export import write_tiles_geojson
from wsi_kd.inference.mappings import MappedTiles, tile_mapping
from wsi_kd.inference.region_file import Outlined, write_regions_geojson
from wsi_kd.inference.regions import merged_regions
from wsi_kd.inference.tables import TileTable
from wsi_kd.report.heatmap import draw_heatmap
from wsi_kd.report.overlay import place_tiles
from wsi_kd.report.overlay_tiff import Overlay, write_overlay_tiff
from wsi_kd.slides.pyramid import read_thumbnail
from wsi_kd.slides.reader import open_slide

TILE_PX = 256
SMOOTH_TILES = 4.0
CLASSES = ("normal", "tumor")
UM_PER_PX = 2.0


def main() -> None:
    """Draw the slides, measure each in a process of its own, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=[*EDGES_PX], default=[*EDGES_PX])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--slides", type=Path, help="keep the drawn slides here and use those that are there")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        slides, found = chosen.slides or Path(folder), {}
        for size in chosen.sizes:
            slide = slides / f"drawn_{size}.svs"
            if not slide.is_file():
                draw_large_slide(slide, edge_px=EDGES_PX[size], levels=4)
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                found[size] = pool.submit(measure, slide, Path(folder) / size).result()
            print(size, *(line_of(part, cost) for part, cost in found[size].items()), sep="\n", flush=True)
    if chosen.json:
        told = {"sizes": found, "versions": package_versions()}
        chosen.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def line_of(part: str, cost: dict[str, Any]) -> str:
    """Say what one part cost."""
    return (
        f"  {part:24} {cost['seconds']:7.2f} s ({cost['cpu_seconds']:.2f} of one core) "
        f"{cost['memory_mib']:7.0f} MiB, file {cost['file_mib']:.1f} MiB"
    )


def measure(slide: Path, out: Path) -> dict[str, dict[str, Any]]:
    """Write every file of one slide once, timed."""
    count = EDGES_PX[slide.stem.removeprefix("drawn_")] // TILE_PX
    noise = np.random.default_rng(0).random((count, count))
    smooth = gaussian_filter(noise, SMOOTH_TILES)
    tiles = table(count, (smooth - smooth.min()) / np.ptp(smooth))
    mapped = tile_mapping(tiles, "student_probability")
    rough = mapped._replace(scores=noise.ravel())
    parts: dict[str, Callable[[Path], None]] = {
        "tiles.geojson": lambda path: write_tiles_geojson(
            path, tiles, slide_id="drawn", origin=(0, 0), classes=CLASSES
        ),
        "regions, smooth scores": lambda path: outline(path, tiles, mapped),
        "regions, noise": lambda path: outline(path, tiles, rough),
        "picture": lambda path: picture(path, slide, tiles=tiles, mapped=mapped),
        f"pyramid, {UM_PER_PX:g} um per px": lambda path: pyramid(path, slide, tiles=tiles, mapped=mapped),
    }
    return {part: cost_of(write, out / f"{index}.out") for index, (part, write) in enumerate(parts.items())}


def cost_of(write: Callable[[Path], None], path: Path) -> dict[str, Any]:
    """Time one file and note the most memory held meanwhile."""
    before = resident_mib("VmRSS")
    forget_peak()
    started, busy = time.perf_counter(), time.process_time()
    write(path)
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - busy,
        "memory_mib": resident_mib("VmHWM") - before,
        "file_mib": path.stat().st_size / 2**20,
    }


def table(count: int, scores: np.ndarray) -> TileTable:
    """Lay count x count tiles without gaps."""
    rows, columns = np.indices((count, count))
    attention = np.exp(scores.ravel())
    return TileTable(
        coords=np.column_stack([columns.ravel(), rows.ravel()]).astype(np.int64) * TILE_PX,
        tile_level0_px=float(TILE_PX),
        attention=attention / attention.sum(),
        branch_attention=None,
        evidence=scores.reshape(-1, 1),
        student_probability=scores.reshape(-1, 1),
        tile_labels=np.full(count * count, -1, np.int8),
        attention_logits=scores.ravel(),
    )


def outline(path: Path, tiles: TileTable, mapped: MappedTiles) -> None:
    """Merge and write the regions at or above one half."""
    found = merged_regions(
        tiles.coords, mapped.scores, tile_level0_px=tiles.tile_level0_px, threshold=0.5, slide_mpp=MPP
    )
    write_regions_geojson(path, found, Outlined("drawn", mapped, 0.5, (0, 0), CLASSES))


def picture(path: Path, slide: Path, *, tiles: TileTable, mapped: MappedTiles) -> None:
    """Draw the picture of 1200 pixels."""
    with open_slide(slide, background="metadata") as reader:
        thumbnail = read_thumbnail(
            reader, slide_mpp=MPP, thumbnail_mpp=MPP * reader.bounds.width_level0_px / 1200
        )
    draw_heatmap(
        path,
        pixels=thumbnail.pixels,
        coords=tiles.coords,
        mapped=mapped,
        tile_level0_px=tiles.tile_level0_px,
        level0_px_per_px=thumbnail.level0_px_per_px,
        origin=thumbnail.origin,
        title="drawn",
        slide_mpp=MPP,
    )


def pyramid(path: Path, slide: Path, *, tiles: TileTable, mapped: MappedTiles) -> None:
    """Write the pyramid."""
    placed = place_tiles(tiles.coords, mapped.scores, tile_level0_px=tiles.tile_level0_px)
    with open_slide(slide, background="metadata") as reader:
        write_overlay_tiff(path, reader, Overlay("drawn", placed, mapped, MPP, UM_PER_PX))


if __name__ == "__main__":
    main()

"""How many tiles a second one core recolors: each stain normalization, the ICC transform, a fit of each.

OMP_NUM_THREADS=1 python benchmarks/stain_speed.py --slide ../shared/data/wsi/CMU-1-Small-Region.svs
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, get_args

import cv2
import numpy as np
import torch
from PIL import ImageCms

from wsi_kd.core.files import publish_json
from wsi_kd.features.stain.fits import Method
from wsi_kd.features.stain.normalizer import create_normalizer, fit_stains
from wsi_kd.features.stain.reference import built_in_target
from wsi_kd.mil.stain_jitter import StainJitter, change_stains, draw_changes
from wsi_kd.slides.icc import ToSrgb
from wsi_kd.slides.reader import open_slide

EDGE_PX: Final = 256
ROUNDS: Final = 5
FIT_PIXELS: Final = 131_072


def read_tiles(path: Path) -> list[np.ndarray]:
    """Read the whole tiles of level 0."""
    with open_slide(path, background="white") as reader:
        width, height = reader.level_dimensions[0]
        return [
            reader.read_region(x_level0_px=x, y_level0_px=y, level=0, width_px=EDGE_PX, height_px=EDGE_PX)
            for y in range(0, height - EDGE_PX, EDGE_PX)
            for x in range(0, width - EDGE_PX, EDGE_PX)
        ]


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds of this thread, the least of several rounds."""
    spent = []
    for _ in range(ROUNDS):
        started = time.thread_time()
        work()
        spent.append(time.thread_time() - started)
    return min(spent)


def measure(tiles: list[np.ndarray]) -> dict[str, float]:
    """Return tiles a second by name, and seconds of each fit."""
    pixels = np.concatenate([tile.reshape(-1, 3) for tile in tiles])
    sample = pixels[np.random.default_rng(0).permutation(len(pixels))[:FIT_PIXELS]]
    found = {}
    for method in get_args(Method):
        fit = fit_stains(sample, method)
        normalize = create_normalizer(method, source=fit, target=built_in_target(method))
        found[method] = len(tiles) / cpu_seconds(lambda normalize=normalize: [normalize(x) for x in tiles])
        found[f"fit {method} (s)"] = cpu_seconds(lambda method=method: fit_stains(sample, method))
    srgb = ToSrgb(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    found["icc to srgb"] = len(tiles) / cpu_seconds(lambda: [srgb(tile) for tile in tiles])
    levels = torch.tensor(np.stack(tiles)).float()
    changes = draw_changes(StainJitter("hed", 0.05, 0.0), len(tiles), device=levels.device)
    if changes is not None:
        found["hed augmentation"] = len(tiles) / cpu_seconds(lambda: change_stains(levels, changes))
    return found


def main() -> None:
    """Print the table, and write it where `--json` says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slide", type=Path, required=True)
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    found = measure(read_tiles(arguments.slide))
    print("| what | tiles of 256 px a second and core |\n|---|---|")
    for name, value in found.items():
        print(f"| {name} | {value:.3g} |" if "(s)" in name else f"| {name} | {value:,.0f} |")
    if arguments.json:
        publish_json(arguments.json, found)


if __name__ == "__main__":
    main()

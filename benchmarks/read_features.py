"""Features of other programs: seconds to read a drawn slide in each layout, and to convert a folder.

    .venv/bin/python benchmarks/read_features.py --tiles 15000 --dimension 1024 --json read_features.json

Median of `--repeats` runs on warm files. `library` reads TRIDENT's file by h5py alone (what its users do).
Memory is the process's peak while a folder of `--slides` slides is converted: it must not grow with them.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import h5py
import numpy as np
import torch

from wsi_kd.core.files import publish_text
from wsi_kd.features.foreign import read_foreign_features
from wsi_kd.settings.adopt import AdoptSettings
from wsi_kd.steps.convert import run_convert

KIB = 1024


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("tiles", 15000), ("dimension", 1024), ("repeats", 5), ("slides", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), chosen)
    for key, value in found.items():
        print(f"{key:32} {value:.4g}")
    if chosen.json:
        publish_text(chosen.json, json.dumps(found, indent=1) + "\n")


def measure(folder: Path, chosen: argparse.Namespace) -> dict[str, float]:
    """Draw the files and time them."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(chosen.tiles, chosen.dimension)).astype(np.float32)
    side = int(np.ceil(np.sqrt(chosen.tiles)))
    index = np.arange(chosen.tiles)
    coords = np.column_stack([index % side, index // side]).astype(np.int64) * 512
    trident = draw(folder / "features_any" / "s0.h5", features, coords, rows=1)
    clam = draw(folder / "h5_files" / "s0.h5", features, coords, rows=32)
    tensor = folder / "pt_files" / "s0.pt"
    tensor.parent.mkdir()
    torch.save(torch.from_numpy(features), tensor)
    timed = {
        "trident, library alone, s": lambda: library(trident),
        "trident, s": lambda: read_foreign_features(trident),
        "clam, s": lambda: read_foreign_features(clam),
        "clam_pt, s": lambda: read_foreign_features(tensor),
    }
    found = {name: seconds(read, chosen.repeats) for name, read in timed.items()}
    found["trident, library over ours"] = found["trident, library alone, s"] / found["trident, s"]
    for number in range(1, chosen.slides):
        draw(trident.with_name(f"s{number}.h5"), features, coords, rows=1)
    before = peak_mib()
    started = time.perf_counter()
    run_convert(AdoptSettings(folder=trident.parent), folder / "ours", to="wsi_kd")
    found["convert, s a slide"] = (time.perf_counter() - started) / chosen.slides
    started = time.perf_counter()
    run_convert(AdoptSettings(folder=trident.parent), folder / "ours", to="wsi_kd")
    found["convert again, s a slide"] = (time.perf_counter() - started) / chosen.slides
    found["peak memory before, MiB"] = before
    found["peak memory after, MiB"] = peak_mib()
    found["one slide's features, MiB"] = features.nbytes / KIB**2
    return found


def draw(path: Path, features: np.ndarray, coords: np.ndarray, *, rows: int) -> Path:
    """Write a slide with `rows` rows a chunk, as TRIDENT (1) and CLAM (32) do."""
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in (("features", features), ("coords", coords)):
            file.create_dataset(
                name, data=values, chunks=(rows, values.shape[1]), maxshape=(None, values.shape[1])
            )
    return path


def library(path: Path) -> None:
    """Read both arrays by h5py."""
    with h5py.File(path, "r") as file:
        file["features"][:]
        file["coords"][:]


def seconds(read: Callable[[], object], repeats: int) -> float:
    """Return the median time of a call, after one that is not counted."""
    read()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        read()
        times.append(time.perf_counter() - started)
    return median(times)


def peak_mib() -> float:
    """Return the process's largest resident size so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB


if __name__ == "__main__":
    main()

"""What bfloat16 saves on a CPU, and what it changes: tiles a second, and the cosine with float32 features.

    python benchmarks/encoder_precision.py --tiles patches/ --weights mobilenet.pt
    python benchmarks/encoder_precision.py --threads 1 --json precision.json

Without weights a network is random, which says what it costs but not what it changes; so the cosine is
gated (0.999) only where weights are given. Tiles are the images of a folder, repeated to fill a batch. The
precisions take turns; with one thread the seconds are the processor's for this process alone.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from PIL import Image

from wsi_kd.core.files import publish_json
from wsi_kd.features.architecture import Architecture
from wsi_kd.features.network import create_architecture
from wsi_kd.features.network_encoder import NetworkEncoder
from wsi_kd.features.weights import load_weights, read_weights

LEAST_COSINE: Final = 0.999
IMAGES: Final = (".png", ".jpg", ".tif", ".tiff")
DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Row(NamedTuple):
    """One encoder's figures."""

    encoder: str
    weights: str
    float32_tiles_per_second: float
    bfloat16_tiles_per_second: float
    gain: float
    least_cosine: float


def build(name: str, architecture: Architecture, precision: str, *, half: bool) -> NetworkEncoder:
    """Freeze a network in one precision; `half` stands for mean and deviation of 0.5."""
    color = (0.5, 0.5, 0.5)
    encoder = NetworkEncoder(
        name,
        architecture.network,
        input_px=architecture.input_px,
        pixel_mean=color if half else architecture.pixel_mean,
        pixel_std=color if half else architecture.pixel_std,
        model_arguments={},
        weights_hash="",
        dtype=DTYPES[precision],
        device=torch.device("cpu"),
    )
    encoder.leave_unchecked()
    return encoder


def read_images(folder: Path | None, *, count: int, edge_px: int) -> np.ndarray:
    """Return (count, edge, edge, 3) bytes: the folder's images in turn, or noise where there is none."""
    if folder is None:
        return np.random.default_rng(0).integers(0, 256, (count, edge_px, edge_px, 3), dtype=np.uint8)
    paths = sorted(path for path in folder.iterdir() if path.suffix in IMAGES)
    if not paths:
        raise SystemExit(f"{folder}: no images ({', '.join(IMAGES)})")
    size = (edge_px, edge_px)
    images = [np.asarray(Image.open(path).convert("RGB").resize(size)) for path in paths]
    return np.stack([images[index % len(images)] for index in range(count)])


def rates(
    encoders: Mapping[str, NetworkEncoder], tiles: np.ndarray, *, repeats: int, threads: int
) -> dict[str, float]:
    """Return tiles a second of each encoder: the median of some runs, in turns."""
    clock = time.process_time if threads == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(repeats):
        for name, encoder in encoders.items():
            started = clock()
            encoder(tiles)
            seconds[name].append(clock() - started)
    return {name: len(tiles) / float(np.median(taken)) for name, taken in seconds.items()}


def least_cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Return the smallest cosine of two rows of features."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(((first * second).sum(axis=1) / norms).min())


def measure(name: str, weights: Path | None, arguments: argparse.Namespace) -> Row:
    """Encode the same tiles in both precisions, taking turns."""
    encoders = {
        precision: build(name, _filled(name, weights), precision, half=arguments.half) for precision in DTYPES
    }
    exact, rounded = encoders.values()
    tiles = read_images(arguments.tiles, count=arguments.batch, edge_px=exact.input_px or 0)
    cosine = least_cosine(exact(tiles), rounded(tiles))
    found = rates(encoders, tiles, repeats=arguments.repeats, threads=arguments.threads)
    file = "" if weights is None else weights.name
    gain = found["bfloat16"] / found["float32"]
    return Row(name, file, found["float32"], found["bfloat16"], gain, cosine)


def _filled(name: str, weights: Path | None) -> Architecture:
    torch.manual_seed(0)
    found = create_architecture(name, model_arguments={}, pretrained=False)
    if weights is not None:
        load_weights(found.network, read_weights(weights), where=weights, classifier=found.classifier)
    return found


def main() -> None:
    """Measure, print, and fail where given weights lose too much."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoders", nargs="+", default=["torchvision:mobilenet_v2", "resnet18", "resnet50"])
    parser.add_argument("--weights", type=Path, help="weights of the first encoder; the others are random")
    parser.add_argument("--half", action="store_true", help="mean and deviation 0.5, as some weights expect")
    parser.add_argument("--tiles", type=Path, help="folder of images; default: noise")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the rows here too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = [
        measure(name, arguments.weights if index == 0 else None, arguments)
        for index, name in enumerate(arguments.encoders)
    ]
    print("| encoder | weights | float32 tiles/s | bfloat16 tiles/s | gain | least cosine |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.encoder} | {row.weights or 'random'} | {row.float32_tiles_per_second:.0f} | "
            f"{row.bfloat16_tiles_per_second:.0f} | {row.gain:.2f} | {row.least_cosine:.5f} |"
        )
    if arguments.json is not None:
        publish_json(arguments.json, {"threads": arguments.threads, "rows": [row._asdict() for row in rows]})
    low = [row.encoder for row in rows if row.weights and row.least_cosine < LEAST_COSINE]
    if low:
        raise SystemExit(f"least cosine below {LEAST_COSINE}: {', '.join(low)}")


if __name__ == "__main__":
    main()

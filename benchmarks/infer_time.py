"""What a slide costs in `infer`: seconds by part and the most memory held, at slides of several sizes.

    OMP_NUM_THREADS=1 python benchmarks/infer_time.py --json infer_time.json

Slides are drawn (benchmarks/large_slide.py), all tissue, with a pyramid; each is scored in a process of its
own by an untrained model of the demo's size on the encoder stain_texture. With one thread reading and
encoding take turns, so their seconds add up; with more, and with an encoder on a GPU, they overlap.
`--without-encoder` puts each tile's mean color in the place of its features: seconds of encode mean nothing
then, memory and all else do.

open: opening the slide once; mask: outline of the tissue and the grid of tiles; read: reading, decoding and
measuring the tiles; encode: their features; score: the model; write: the four files and the thumbnail below
the heatmap. Memory is the process's resident size above that before the slide (model and libraries).
"""

import argparse
import json
import multiprocessing
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from large_slide import draw_large_slide
from wsi_kd.bags.manifest import bare_row
from wsi_kd.core.provenance import package_versions, stamp
from wsi_kd.core.shapes import FeatureArray, TileBatch
from wsi_kd.features.encoders import Encoder, StainTextureEncoder
from wsi_kd.inference.likeness import Limit
from wsi_kd.mil.registry import create_model
from wsi_kd.settings.all import Settings
from wsi_kd.slides.reader import open_slide
from wsi_kd.steps.infer_model import load_inference
from wsi_kd.steps.infer_slide import infer_slide
from wsi_kd.training.checkpoint import save_model

EDGES_PX = {"1k": 8_192, "10k": 24_576, "100k": 81_920}
"""Slides of 1,024, 9,216 and 102,400 tiles of 256 px."""
MIB = 2**20
KIB = 1024
PEAK_FROM_NOW = "5"


def main() -> None:
    """Draw the slides, score each in a process of its own, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=[*EDGES_PX], default=[*EDGES_PX])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--slides", type=Path, help="keep the drawn slides here and use those that are there")
    parser.add_argument("--without-encoder", action="store_true", help="mean colors instead of features")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        slides = chosen.slides or Path(folder)
        write_model(Path(folder) / "model")
        found = {}
        for size in chosen.sizes:
            slide = slides / f"drawn_{size}.svs"
            if not slide.is_file():
                draw_large_slide(slide, edge_px=EDGES_PX[size], levels=4)
            found[size] = measured_alone(slide, Path(folder), without_encoder=chosen.without_encoder)
            print(lines_of(size, found[size]), flush=True)
    if chosen.json:
        told = {
            "sizes": found,
            "without_encoder": chosen.without_encoder,
            "threads": torch.get_num_threads(),
            "versions": package_versions(),
        }
        chosen.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def write_model(folder: Path) -> None:
    """Write an untrained model of the demo's size with the default tiling."""
    arguments: dict[str, Any] = {
        "teacher": "gated_abmil",
        "feature_dim": StainTextureEncoder.feature_dim,
        "classes": 2,
        "hidden_dim": 128,
        "attention_dim": 64,
        "dropout": 0.75,
        "student_hidden_dim": 0,
        "with_student": True,
    }
    settings = Settings()
    header = {
        **stamp("model", {}),
        "recipe": "weno",
        "teacher": "gated_abmil",
        "model": arguments,
        "classes": ["normal", "tumor"],
        "feature_dim": StainTextureEncoder.feature_dim,
        "encoder": StainTextureEncoder.name,
        "encoder_settings": {},
        "weights_hash": StainTextureEncoder.weights_hash,
        "network_sha256": "",
        "stain": {},
        "sections": {
            name: getattr(settings, name).model_dump(mode="json")
            for name in ("slides", "mask", "tile", "stain", "embed")
        },
        "student_pooling": "topk",
        "top_k": 5,
        "thresholds": {"teacher": 0.5, "student": 0.5},
        "threshold_rule": "youden",
        "threshold_split": "val",
        "out_of_distribution": Limit(2.0, "constant", None, 0, 0, "val")._asdict(),
        "seed": 0,
        "fold": 0,
        "epoch": 0,
    }
    save_model(folder, "model", create_model(**arguments), header=header)


def measured_alone(slide: Path, folder: Path, *, without_encoder: bool) -> dict[str, Any]:
    """Measure in a fresh process: its peak of memory is then this slide's."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, slide, folder, without_encoder=without_encoder).result()


def measure(slide: Path, folder: Path, *, without_encoder: bool) -> dict[str, Any]:
    """Score one slide and write its files, by the functions of the command."""
    inference = load_inference([folder / "model"], device="cpu")
    started = time.perf_counter()
    with open_slide(slide, background=inference.settings.slides.background):
        opened = time.perf_counter() - started
    timed = TimedEncoder(MeanColor() if without_encoder else inference.encoder)
    before = resident_mib("VmRSS")
    forget_peak()
    busy = time.process_time()
    result = infer_slide(bare_row(slide, None), inference._replace(encoder=timed))
    scored = resident_mib("VmHWM")
    forget_peak()
    started = time.perf_counter()
    result.write(folder / "out")
    written = time.perf_counter() - started
    busy = time.process_time() - busy
    laps = result.record["seconds"]
    pixels = result.record["slide"]["level0_width"] * result.record["slide"]["level0_height"]
    return {
        "tiles": result.status.tiles,
        "status": str(result.status.status),
        "gigapixels": pixels / 1e9,
        "slide_mib": slide.stat().st_size / MIB,
        "seconds": {
            "open": opened,
            "mask": laps["mask"] + laps["tile"] - opened,
            "read": laps["embed"] - timed.seconds,
            "encode": timed.seconds,
            "score": laps["score"],
            "write": laps["files"] + written,
        },
        "processor_seconds": busy,
        "memory_mib": {
            "before": before,
            "features, float16": result.status.tiles * inference.encoder.feature_dim * 2 / MIB,
            "most until scored": scored - before,
            "most while writing": resident_mib("VmHWM") - before,
        },
    }


class MeanColor(StainTextureEncoder):
    """As many numbers a tile as the encoder it stands for, all but its mean color zero."""

    def __call__(self, tiles: TileBatch) -> FeatureArray:
        """Average."""
        features = np.zeros((len(tiles), self.feature_dim), np.float32)
        features[:, :3] = tiles[:, ::8, ::8].mean(axis=(1, 2))
        return features


class TimedEncoder:
    """An encoder that counts the seconds it is asked for, over all threads."""

    def __init__(self, encoder: Encoder) -> None:
        """Wrap `encoder`."""
        self.encoder = encoder
        self.seconds = 0.0
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        """Return what the wrapped encoder tells of itself."""
        return getattr(self.encoder, name)

    def __call__(self, tiles: TileBatch) -> FeatureArray:
        """Encode."""
        started = time.perf_counter()
        features = self.encoder(tiles)
        with self._lock:
            self.seconds += time.perf_counter() - started
        return features


def resident_mib(name: str) -> float:
    """Return the process's resident size (VmRSS) or the largest since `forget_peak` (VmHWM), in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) / KIB


def forget_peak() -> None:
    """Let the largest resident size start anew (Linux)."""
    Path("/proc/self/clear_refs").write_text(PEAK_FROM_NOW, encoding="utf-8")


def lines_of(size: str, found: dict[str, Any]) -> str:
    """Return one slide's figures as text."""
    seconds = found["seconds"]
    whole = sum(seconds.values())
    shares = ", ".join(f"{part} {seconds[part]:.2f} s ({seconds[part] / whole:.0%})" for part in seconds)
    memory = ", ".join(f"{name} {value:.0f} MiB" for name, value in found["memory_mib"].items())
    return (
        f"{size}: {found['tiles']} tiles, {found['gigapixels']:.2f} gigapixels, "
        f"{found['slide_mib']:.0f} MiB, {found['status']}: {whole:.2f} s (processor "
        f"{found['processor_seconds']:.2f} s); {shares}; memory: {memory}"
    )


if __name__ == "__main__":
    main()

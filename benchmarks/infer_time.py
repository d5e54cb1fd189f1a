"""What a slide costs in `infer`: seconds by part and the most memory held, at slides of several sizes.

    OMP_NUM_THREADS=1 python benchmarks/infer_time.py --json infer_time.json

Slides are drawn (benchmarks/large_slide.py), all tissue, with a pyramid; each is scored in a process of its
own by an untrained model of the demo's size on the encoder stain_texture. With one thread reading and
encoding take turns, so their seconds add up; with more, and with an encoder on a GPU, they overlap.
`--without-encoder` puts each tile's mean color in the place of its features: seconds of encode mean nothing
then, memory and all else do.

open: opening the slide once; mask: outline of the tissue and the grid of tiles; read: reading, decoding and
measuring the tiles; encode: their features; score: the model; write: the four files and the thumbnail below
the heatmap. Memory is the most that the process held in each part above what it held before the slide (model
and libraries); the JSON also tells what each part left behind.
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

from bench_record import MeasuredTable, bench_record, measured_table
from infer_parts import Watch
from large_slide import draw_large_slide
from performance_page import table_text
from wsi_kd.bags.manifest import bare_row
from wsi_kd.core.files import publish_json
from wsi_kd.core.provenance import stamp
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
FEATURE_BYTES = 2
"""Of a stored number."""
SECONDS = ("open", "mask", "read", "encode", "score", "write")
MEMORY = ("mask", "tile", "embed", "score", "write")


def main() -> None:
    """Draw the slides, score each in a process of its own, print two tables."""
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
            print(json.dumps({size: found[size]}), flush=True)
    record = bench_record(
        "infer_time",
        {
            "sizes": chosen.sizes,
            "without_encoder": chosen.without_encoder,
            "threads": torch.get_num_threads(),
        },
        tables={"seconds": table_of_seconds(found), "memory": table_of_memory(found)},
        sizes=found,
    )
    for name in record["tables"]:
        print("\n" + table_text(record, name, where=Path("infer_time.json")))
    if chosen.json:
        publish_json(chosen.json, record)


def table_of_seconds(found: dict[str, Any]) -> MeasuredTable:
    """Lay out wall seconds by part, and those of the processor."""
    columns = {"tiles": ",.0f", "edge of the slide, px": ",.0f", "seconds": ".1f", "processor": ".1f"}
    rows = [
        [one["tiles"], EDGES_PX[size], sum(one["seconds"].values()), one["processor_seconds"]]
        + [one["seconds"][part] for part in SECONDS]
        for size, one in found.items()
    ]
    return measured_table({**columns, **dict.fromkeys(SECONDS, ".2f")}, rows)


def table_of_memory(found: dict[str, Any]) -> MeasuredTable:
    """Lay out the most memory by part in MiB, and the most of all less the features themselves."""
    columns = {
        "tiles": ",.0f",
        "features": ".1f",
        **dict.fromkeys(MEMORY, ".0f"),
        "most less features": ".0f",
    }
    rows = [
        [one["tiles"], one["features_mib"], *(one["most_mib"][part] for part in MEMORY), one["bare_mib"]]
        for one in found.values()
    ]
    return measured_table(columns, rows)


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
    watch = Watch()
    with watch.steps():
        result = infer_slide(bare_row(slide, None), inference._replace(encoder=timed))
    with watch.part("files"):
        result.write(folder / "out")
    spent, tiles = watch.spent, result.status.tiles
    most = {name: spent[name].most_mib for name in ("mask", "tile", "embed", "score")}
    most["write"] = max(spent["overview"].most_mib, spent["files"].most_mib)
    features_mib = tiles * inference.encoder.feature_dim * FEATURE_BYTES / MIB
    held = {"mask": 0.0, "tile": 0.0}  # features are made after these
    return {
        "tiles": tiles,
        "status": str(result.status.status),
        "slide_mib": slide.stat().st_size / MIB,
        "seconds": {
            "open": opened,
            "mask": spent["mask"].seconds + spent["tile"].seconds - opened,
            "read": spent["embed"].seconds - timed.seconds,
            "encode": timed.seconds,
            "score": spent["score"].seconds,
            "write": spent["overview"].seconds + spent["files"].seconds,
        },
        "processor_seconds": sum(one.processor_seconds for one in spent.values()),
        "before_mib": watch.before_mib,
        "features_mib": features_mib,
        "most_mib": most,
        "bare_mib": max(value - held.get(name, features_mib) for name, value in most.items()),
        "parts": {name: one._asdict() for name, one in spent.items()},
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


if __name__ == "__main__":
    main()

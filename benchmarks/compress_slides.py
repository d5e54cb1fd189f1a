"""What a hospital would look at: accuracy, size and CPU time of the line, large, distilled and small alone.

CRC nuclei (60 patients, tile truth). Large: MobileNetV2 at 96 px (ImageNet) and a weno of 256
hidden units. Small: `tile_cnn` at 27 px from random weights, and a weno of 16 hidden units.

    python benchmarks/crc_nuclei.py --data ../shared/data
    snakemake -c2 --configfile configs/crc_nuclei.yaml --until split
    snakemake -c2 --configfile configs/crc_nuclei_images.yaml --until embed
    OMP_NUM_THREADS=1 python benchmarks/compress_slides.py

Every fold's results are kept in --out; a killed run goes on from there.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

import crc_models
import small_encoders
from compression_tables import results
from crc_models import CLASSES, score, settings_of
from wsi_kd.bags.datasets import BagSet
from wsi_kd.core.files import publish_json, publish_text, read_json
from wsi_kd.features.network import create_architecture
from wsi_kd.kd.cost import Cost, measure_cost
from wsi_kd.mil.registry import create_model
from wsi_kd.mil.weno import TeacherStudent
from wsi_kd.steps.train import Job, train_recipe
from wsi_kd.steps.train_plan import plan_architecture
from wsi_kd.training.checkpoint import LoadedModel

SMALL: Final = {"hidden_dim": 16, "attention_dim": 8}
LARGE: Final = {"hidden_dim": 256, "attention_dim": 128}
TAUGHT: Final = {**SMALL, "teacher": "gated_abmil"}
"""The same shape as that of the small model that learns from labels."""
SLIDE_TILES: Final = 1_000
LARGE_PX: Final = 96
BATCH: Final = 64
LARGE_NAME: Final = "MobileNetV2"
SMALL_NAME: Final = "tile_cnn"


class Names(NamedTuple):
    """How a row is called."""

    encoder: str
    mil: str
    learned_from: str
    """What the MIL model learned from."""


WIDE: Final = "weno, 256 wide"
NARROW: Final = "weno, 16 wide"
ROWS: Final = {
    "large": Names(LARGE_NAME, WIDE, "labels"),
    "small MIL": Names(LARGE_NAME, NARROW, "labels"),
    "distilled MIL": Names(LARGE_NAME, NARROW, "large MIL, labels"),
    "encoder by features": Names(f"{SMALL_NAME}, by features", NARROW, "labels"),
    "encoder by logits": Names(f"{SMALL_NAME}, by logits", NARROW, "labels"),
    "encoder by labels": Names(f"{SMALL_NAME}, by slide labels", NARROW, "labels"),
    "encoder random": Names(f"{SMALL_NAME}, random", NARROW, "labels"),
    "both by features": Names(f"{SMALL_NAME}, by features", NARROW, "wide MIL on the same, labels"),
    "both by logits": Names(f"{SMALL_NAME}, by logits", NARROW, "wide MIL on the same, labels"),
}
PAIRS: Final = [
    ("small MIL", "large"),
    ("distilled MIL", "small MIL"),
    ("encoder by features", "encoder by labels"),
    ("encoder by features", "encoder random"),
    ("encoder by logits", "encoder by labels"),
    ("encoder by features", "small MIL"),
    ("both by features", "encoder by features"),
    ("both by logits", "encoder by logits"),
    ("both by features", "large"),
    ("both by logits", "large"),
]
"""Rows that are compared run by run."""


class Place(NamedTuple):
    """Where things lie."""

    large_run: Path
    pixels_dir: Path
    manifest: Path
    out: Path


class Fold(NamedTuple):
    """The bags of one fold's parts."""

    number: int
    bags: dict[str, BagSet]
    pixels: dict[str, small_encoders.Pixels]


def train_on_labels(
    fold: Fold, bags: dict[str, BagSet], *, seed: int, shape: dict[str, int]
) -> TeacherStudent:
    """Train weno on labels."""
    return _train(Job("weno", seed, fold.number, CLASSES, settings_of(**shape)), bags)


def distill_small(fold: Fold, bags: dict[str, BagSet], *, seed: int, large: TeacherStudent) -> TeacherStudent:
    """Train the same small model on what `large` says, the labels beside it."""
    taught = LoadedModel(large, {})
    return _train(Job("distill", seed, fold.number, CLASSES, settings_of(distill=TAUGHT), taught), bags)


def _train(job: Job, bags: dict[str, BagSet]) -> TeacherStudent:
    with tempfile.TemporaryDirectory() as folder:
        work_dir = Path(folder)
        trained = train_recipe(job, bags["train"], bags["val"], work_dir=work_dir, on_epoch=lambda row: None)
        return trained.model


def read_folds(place: Place, *, only: list[int] | None) -> Iterator[Fold]:
    for number, bags in enumerate(crc_models.read_folds(place.large_run, place.manifest)):
        if only and number not in only:
            continue
        pixels = {part: small_encoders.read_tiles(place.pixels_dir, bags[part]) for part in bags}
        yield Fold(number, bags, pixels)


def run_fold(fold: Fold, *, seeds: int, epochs: int) -> list[dict[str, Any]]:
    """Train and score every row of the table on one fold; encoders once (seed 0), MIL models by seed."""
    found: list[dict[str, Any]] = []

    def note(row: str, seed: int, model: TeacherStudent, *, bags: dict[str, BagSet] = fold.bags) -> None:
        found.append({"row": row, "fold": fold.number, "seed": seed, **score(model, bags["test"])})
        sys.stderr.write(f"{found[-1]}\n")

    larges = [train_on_labels(fold, fold.bags, seed=seed, shape=LARGE) for seed in range(seeds)]
    for seed, large in enumerate(larges):
        note("large", seed, large)
        note("small MIL", seed, train_on_labels(fold, fold.bags, seed=seed, shape=SMALL))
        note("distilled MIL", seed, distill_small(fold, fold.bags, seed=seed, large=large))
    for kind, weights in encoders_of(fold, larges[0], epochs=epochs).items():
        own = {
            part: small_encoders.describe(weights, fold.pixels[part], fold.bags[part]) for part in fold.bags
        }
        for seed in range(seeds):
            note(f"encoder {kind}", seed, train_on_labels(fold, own, seed=seed, shape=SMALL), bags=own)
            if f"both {kind}" in ROWS:
                large = train_on_labels(fold, own, seed=seed, shape=LARGE)
                note(f"both {kind}", seed, distill_small(fold, own, seed=seed, large=large), bags=own)
    return found


def encoders_of(fold: Fold, large: TeacherStudent, *, epochs: int) -> dict[str, dict[str, torch.Tensor]]:
    """Return the weights of the four small encoders."""
    plan = small_encoders.plan_of(epochs, seed=0)
    edge_px = fold.pixels["train"].tiles.shape[1]
    taught = {
        f"by {kind}": small_encoders.by_teacher(kind, fold.pixels, fold.bags, large=large, plan=plan)
        for kind in ("features", "logits")
    }
    return {
        **taught,
        "by labels": small_encoders.by_labels(fold.pixels, plan),
        "random": small_encoders.not_at_all(edge_px, seed=0),
    }


def costs_of(edge_px: int, feature_dim: int) -> dict[str, dict[str, float]]:
    """Return size and CPU time of each row's encoder and MIL model, on one thread; weights play no role.

    In processor time, in which other work on the machine counts less.
    """
    measure = partial(measure_cost, threads=1, clock=time.process_time)
    large = create_architecture("torchvision:mobilenet_v2", model_arguments={}, pretrained=False)
    small = small_encoders.small_side(edge_px, seed=0, classes=0)
    encoders = {
        LARGE_NAME: (
            measure(large.network, torch.zeros(BATCH, 3, LARGE_PX, LARGE_PX), calls=5),
            feature_dim,
        ),
        SMALL_NAME: (
            measure(small.encoder, torch.zeros(BATCH, 3, edge_px, edge_px), calls=5),
            small.feature_dim,
        ),
    }
    models: dict[tuple[str, bool], Cost] = {}
    found = {}
    for row, names in ROWS.items():
        name, wide = names.encoder.partition(",")[0], names.mil == WIDE
        encoder, width = encoders[name]
        if (name, wide) not in models:  # rows of one shape cost the same
            inputs = (torch.zeros(SLIDE_TILES, width), torch.tensor([0, SLIDE_TILES]))
            models[name, wide] = measure(model_of(width, shape=LARGE if wide else SMALL), inputs, samples=1)
        mil = models[name, wide]
        found[row] = {
            "parameters": encoder.parameters + mil.parameters,
            "weights MB": (encoder.weights_bytes + mil.weights_bytes) / 1e6,
            "s per 1,000 tiles": SLIDE_TILES / encoder.samples_per_s,
            "MIL ms per slide": mil.latency_ms,
        }
    return found


def model_of(feature_dim: int, *, shape: dict[str, int]) -> TeacherStudent:
    """Build a MIL model of a row with random weights."""
    plan = plan_architecture(settings_of(**shape).train)
    return create_model(**plan._asdict(), feature_dim=feature_dim, classes=len(CLASSES), with_student=True)


def main() -> None:
    """Measure what is not there yet and print markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--large-run", type=Path, default=Path("results/crc"))
    parser.add_argument("--pixels", type=Path, default=Path("results/crc-images/features"))
    parser.add_argument("--manifest", type=Path, default=Path("results/crc-cohort/slides.csv"))
    parser.add_argument("--out", type=Path, default=Path("results/compression"))
    parser.add_argument("--seeds", type=int, default=1, help="of the MIL models; encoders have one")
    parser.add_argument("--folds", type=int, nargs="*", help="default: all")
    parser.add_argument("--epochs", type=int, default=4, help="of the encoders")
    chosen = parser.parse_args()
    place = Place(chosen.large_run, chosen.pixels, chosen.manifest, chosen.out)
    torch.set_num_threads(1)
    found: list[dict[str, Any]] = []
    for fold in read_folds(place, only=chosen.folds):
        path = place.out / f"seeds{chosen.seeds}-epochs{chosen.epochs}" / f"fold{fold.number}.json"
        if not path.is_file():
            runs = run_fold(fold, seeds=chosen.seeds, epochs=chosen.epochs)
            publish_json(path, {"runs": runs})
        found += read_json(path, remake="python benchmarks/compress_slides.py")["runs"]
    edge_px, feature_dim = fold.pixels["train"].tiles.shape[1], fold.bags["train"].features.shape[1]
    rows = {row: tuple(names) for row, names in ROWS.items()}
    text = results(found, costs_of(edge_px, feature_dim), rows=rows, pairs=PAIRS)
    publish_text(place.out / "table.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()

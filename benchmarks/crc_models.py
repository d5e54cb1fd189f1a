"""What the benchmarks on CRC nuclei share: options, folds, settings for a CPU, the scores of a model."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch

from wsi_kd.bags.datasets import BagSet, load_bags
from wsi_kd.bags.manifest import read_manifest
from wsi_kd.mil.weno import TeacherStudent
from wsi_kd.settings.all import Settings, parse_settings
from wsi_kd.steps.split import read_splits
from wsi_kd.training.validation import auc

CLASSES: Final = ("benign", "cancer")


def crc_parser(about: str | None, *, out: str, seeds: int) -> argparse.ArgumentParser:
    """Return a parser of where the run, its manifest and the results lie, and of how many seeds."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("results/crc"))
    parser.add_argument("--manifest", type=Path, default=Path("results/crc-cohort/slides.csv"))
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--seeds", type=int, default=seeds)
    return parser


def read_folds(run: Path, manifest: Path) -> Iterator[dict[str, BagSet]]:
    """Read the bags of one fold after the other, by part."""
    rows = {row.slide_id: row for row in read_manifest(manifest, slides_dir=None, classes=CLASSES).rows}
    for fold in read_splits(run / "splits.csv").folds:
        yield {
            part: load_bags(run / "features", [rows[slide_id] for slide_id in slide_ids], CLASSES)
            for part, slide_ids in fold._asdict().items()
        }


def settings_of(**train: Any) -> Settings:
    """Return settings whose section train is the defaults but for what is given, in float32 on a CPU."""
    value = {"precision": "float32", "device": "cpu", "recipes": ["weno", "distill"], **train}
    return parse_settings({"train": value}, where="benchmark")


def score(model: TeacherStudent, bags: BagSet) -> dict[str, float]:
    """Return the test part's AUCs: bags by the teacher, tiles (all slides together) by the student."""
    with torch.no_grad():
        output = model.eval()(torch.from_numpy(bags.features).float(), torch.from_numpy(bags.offsets))
    known = torch.from_numpy(bags.tile_labels >= 0)
    truth = torch.from_numpy(bags.tile_labels == 1)[known]
    if output.instance_logits is None:
        raise SystemExit("a model of recipe weno has a student")
    bag = output.bag_logits[:, 1] - output.bag_logits[:, 0]
    return {
        "bag AUC": auc(bag, torch.from_numpy(bags.labels == 1)),
        "instance AUC": auc(output.instance_logits[known, 0], truth),
    }

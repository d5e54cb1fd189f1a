"""What a start from the large model's neurons saves recipe distill: epochs, and what it comes to.

CRC nuclei (60 patients, tile truth), MobileNetV2's features. Large: weno on abmil, 256 wide. Small: the same,
16 wide, taught by it, from random weights and from copied and averaged neurons.

    python benchmarks/crc_nuclei.py --data ../shared/data
    snakemake -c2 --configfile configs/crc_nuclei.yaml --until split
    OMP_NUM_THREADS=1 python benchmarks/narrow_start.py
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final, NamedTuple

import torch

from crc_models import CLASSES, crc_parser, read_folds, score, settings_of
from wsi_kd.bags.datasets import BagSet
from wsi_kd.core.files import publish_json, publish_text
from wsi_kd.steps.train import Job, train_recipe
from wsi_kd.training.checkpoint import LoadedModel
from wsi_kd.training.loop import Trained

LARGE: Final = {"teacher": "abmil", "hidden_dim": 256, "attention_dim": 128}
SMALL: Final = {"teacher": "abmil", "hidden_dim": 16, "attention_dim": 8}
STARTS: Final = ("random", "copy_average")
FIGURES: Final = (
    "bag loss, first epoch",
    "validation loss, first epoch",
    "validation loss, best epoch",
    "epochs to the random start's best",
    "bag AUC",
    "instance AUC",
)


class Taught(NamedTuple):
    """A small model's course."""

    bag_losses: list[float]
    """Divergence from the large model on the training part, mean of each epoch."""
    val_losses: list[float]
    """What selects the epoch."""
    scores: dict[str, float]


def main() -> None:
    """Measure, print the table and keep the figures."""
    chosen = crc_parser(__doc__, out="results/narrow_start", seeds=1).parse_args()
    torch.set_num_threads(1)
    runs: list[dict[str, Any]] = []
    for number, bags in enumerate(read_folds(chosen.run, chosen.manifest)):
        for seed in range(chosen.seeds):
            runs += compare(bags, fold=number, seed=seed)
    text = table(runs)
    publish_json(chosen.out / "metrics.json", {"runs": runs})
    publish_text(chosen.out / "table.md", text)
    sys.stdout.write(text)


def compare(bags: dict[str, BagSet], *, fold: int, seed: int) -> list[dict[str, Any]]:
    """Train the large model and both small ones of a fold; return a row of figures for each start."""
    large = _train(Job("weno", seed, fold, CLASSES, settings_of(**LARGE)), bags).model
    courses = {
        start: teach(bags, large=LoadedModel(large, {}), fold=fold, seed=seed, start=start)
        for start in STARTS
    }
    goal = min(courses["random"].val_losses)
    rows = [
        {"start": start, "fold": fold, "seed": seed, **figures(course, goal=goal)}
        for start, course in courses.items()
    ]
    for row in rows:
        sys.stderr.write(f"{row}\n")
    return rows


def teach(bags: dict[str, BagSet], *, large: LoadedModel, fold: int, seed: int, start: str) -> Taught:
    """Train the small model from one start."""
    settings = settings_of(distill={**SMALL, "start": start})
    trained = _train(Job("distill", seed, fold, CLASSES, settings, large), bags)
    history = trained.history
    return Taught(
        [float(row["train_bag_loss"] or 0.0) for row in history],
        [float(row["selection_loss"] or 0.0) for row in history],
        score(trained.model, bags["test"]),
    )


def figures(course: Taught, *, goal: float) -> dict[str, float]:
    """Return a course's figures; epochs count from 1, and one more than all where the goal is not reached.

    >>> found = figures(Taught([0.5, 0.2], [0.9, 0.4], {"bag AUC": 1.0, "instance AUC": 0.8}), goal=0.5)
    >>> found["epochs to the random start's best"], found["validation loss, best epoch"]
    (2, 0.4)
    """
    reached = [epoch for epoch, loss in enumerate(course.val_losses, start=1) if loss <= goal]
    epochs = reached[0] if reached else len(course.val_losses) + 1
    first = (course.bag_losses[0], course.val_losses[0], min(course.val_losses), epochs)
    return dict(zip(FIGURES, (*first, course.scores["bag AUC"], course.scores["instance AUC"]), strict=True))


def table(runs: Sequence[dict[str, Any]]) -> str:
    """Return mean and standard deviation over folds and seeds, and the differences run by run."""
    lines = [f"| start | {' | '.join(FIGURES)} |", f"|---|{'---|' * len(FIGURES)}"]
    of = {start: [run for run in runs if run["start"] == start] for start in STARTS}
    for start, rows in of.items():
        lines.append(f"| {start} | {' | '.join(_cell([row[name] for row in rows]) for name in FIGURES)} |")
    pairs = list(zip(of["copy_average"], of["random"], strict=True))
    apart = [_cell([ours[name] - theirs[name] for ours, theirs in pairs]) for name in FIGURES]
    return "\n".join([*lines, f"| difference | {' | '.join(apart)} |"]) + "\n"


def _cell(values: Sequence[float]) -> str:
    return f"{fmean(values):.3f} ± {stdev(values) if len(values) > 1 else 0.0:.3f}"


def _train(job: Job, bags: dict[str, BagSet]) -> Trained:
    with tempfile.TemporaryDirectory() as folder:
        return train_recipe(job, bags["train"], bags["val"], work_dir=Path(folder), on_epoch=lambda row: None)


if __name__ == "__main__":
    main()

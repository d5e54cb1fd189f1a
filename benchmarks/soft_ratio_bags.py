"""Does the soft ratio that kernels suggest hold for MIL models? Musk1, elephant, CRC nuclei.

Each seed deals the bags of a cohort into a part for the teacher, one for the student and one for the test.
The teacher is an abmil of 128 hidden units; students are an abmil of 16 (recipe distill: soft ratio x
divergence from the teacher + the rest x cross entropy with labels, temperature 1) and a linear classifier on
the mean of a bag's features. The kernels see the student's part alone: those means, the teacher's logits, the
labels.

    python benchmarks/crc_nuclei.py --data ../shared/data
    snakemake -c2 --configfile configs/crc_nuclei.yaml --until split
    OMP_NUM_THREADS=1 python benchmarks/soft_ratio_bags.py --data ../shared/data

Every seed's results are kept in --out; a killed run goes on from there.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from crc_models import CLASSES, crc_parser, settings_of
from table_bags import read_table_bags
from wsi_kd.bags.datasets import BagSet, load_bags
from wsi_kd.bags.manifest import read_manifest
from wsi_kd.core.files import publish_json, publish_text, read_json
from wsi_kd.kd.soft_ratio import suggest_soft_ratio
from wsi_kd.mil.weno import TeacherStudent
from wsi_kd.report.soft_ratio import soft_ratio_svg
from wsi_kd.steps.train import Job, train_recipe
from wsi_kd.training.checkpoint import LoadedModel

RATIOS: Final = (1.0, 0.8, 0.6, 0.4, 0.2, 0.05)
SHARES: Final = {"teacher": 0.3, "teacher_val": 0.1, "train": 0.3, "val": 0.1, "test": 0.2}
STEPS: Final = {"bags_per_step": 16, "learning_rate": 3e-3, "patience": 15}
LARGE: Final = {"teacher": "abmil", "hidden_dim": 128, "attention_dim": 64}
SMALL: Final = {"teacher": "abmil", "hidden_dim": 16, "attention_dim": 8}
STUDENTS: Final = ("small MIL", "linear")
PENALTY: Final = 0.1
"""Inverse weight of the linear student's ridge."""
POINT: Final = 0.01


class Outcome(NamedTuple):
    """One seed."""

    accuracy: dict[str, dict[str, float]]
    """Student -> soft ratio -> share of the test bags it calls right."""
    suggested: float
    teacher: float
    """Accuracy of the teacher on the same bags."""


def main() -> None:
    """Measure, print the tables and keep the figures."""
    parser = crc_parser(__doc__, out="results/soft_ratio_bags", seeds=16)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cohorts", nargs="+", default=["elephant", "musk1", "crc"])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    readers: dict[str, Callable[[], BagSet]] = {
        "elephant": partial(read_table_bags, "elephant", data=chosen.data),
        "musk1": partial(read_table_bags, "musk1", data=chosen.data),
        "crc": partial(read_slides, chosen.run, chosen.manifest),
    }
    texts = []
    for cohort in chosen.cohorts:
        bags = readers[cohort]()
        outcomes = [kept_or_measured(bags, cohort, seed=seed, out=chosen.out) for seed in range(chosen.seeds)]
        texts.append(table(cohort, outcomes))
        sys.stdout.write(texts[-1])
    publish_text(chosen.out / "table.md", "\n".join(texts))


def read_slides(run: Path, manifest: Path) -> BagSet:
    """Read the slides of CRC nuclei."""
    rows = read_manifest(manifest, slides_dir=None, classes=CLASSES).rows
    return load_bags(run / "features", rows, CLASSES)


def kept_or_measured(bags: BagSet, cohort: str, *, seed: int, out: Path) -> Outcome:
    """Return what a seed gave, from an earlier run where that left it."""
    path = out / cohort / f"seed{seed}.json"
    if not path.is_file():
        began = time.perf_counter()
        publish_json(path, measure(bags, seed=seed, chart=out / cohort / f"seed{seed}.svg")._asdict())
        sys.stderr.write(f"{cohort} seed {seed}: {time.perf_counter() - began:.0f} s\n")
    value = read_json(path, remake="delete it")
    return Outcome(value["accuracy"], value["suggested"], value["teacher"])


def measure(bags: BagSet, *, seed: int, chart: Path) -> Outcome:
    """Train the teacher and a student of each kind at every soft ratio, and ask the kernels."""
    parts = deal(bags, seed=seed)
    large = train("abmil", parts, LARGE, seed=seed, names=("teacher", "teacher_val"))
    means = {name: bag_means(part) for name, part in parts.items()}
    logits = {name: bag_logits(large, part) for name, part in parts.items()}
    labels = torch.from_numpy(parts["train"].labels)
    suggestion = suggest_soft_ratio(
        means["train"], logits["train"], labels, ratios=RATIOS, temperatures=(1.0,), seed=seed
    )
    publish_text(chart, soft_ratio_svg(suggestion))
    trained = {
        ratio: train("distill", parts, lesson(ratio), seed=seed, names=("train", "val"), large=large)
        for ratio in RATIOS
    }
    test = parts["test"].labels
    found = {
        "small MIL": {
            ratio: accuracy(bag_logits(model, parts["test"]), test) for ratio, model in trained.items()
        },
        "linear": {
            ratio: accuracy(linear(ratio, means, teacher=logits["train"], labels=labels), test)
            for ratio in RATIOS
        },
    }
    named = {student: {f"{ratio:g}": value for ratio, value in row.items()} for student, row in found.items()}
    return Outcome(named, suggestion.best.soft_ratio, accuracy(logits["test"], test))


def deal(bags: BagSet, *, seed: int) -> dict[str, BagSet]:
    """Deal the bags of each class into the parts of `SHARES`."""
    generator = np.random.default_rng(seed)
    chosen: dict[str, list[str]] = {name: [] for name in SHARES}
    edges = np.concatenate([[0.0], np.cumsum(list(SHARES.values()))])
    for label in np.unique(bags.labels):
        order = generator.permutation(np.flatnonzero(bags.labels == label))
        cuts = np.rint(edges * len(order)).astype(int)
        for name, (start, end) in zip(SHARES, pairwise(cuts), strict=True):
            chosen[name] += [bags.slide_ids[index] for index in order[start:end]]
    return {name: bags.select(ids) for name, ids in chosen.items()}


def lesson(ratio: float) -> dict[str, Any]:
    """Return the settings of a small model that learns bags alone, at a soft ratio."""
    weights = {"label_weight": 1.0 - ratio, "bag_weight": ratio, "attention_weight": 0.0}
    return {
        "distill": {**SMALL, **weights, "instance_weight": 0.0, "temperature": 1.0, "teacher_recipe": "abmil"}
    }


def train(
    recipe: str,
    parts: Mapping[str, BagSet],
    settings: Mapping[str, Any],
    *,
    seed: int,
    names: tuple[str, str],
    large: TeacherStudent | None = None,
) -> TeacherStudent:
    """Train on the first of the named parts, selected on the second."""
    taught = None if large is None else LoadedModel(large, {})
    job = Job(recipe, seed, 0, CLASSES, settings_of(**STEPS, **settings), taught)
    train_part, val = (parts[name] for name in names)
    with tempfile.TemporaryDirectory() as folder:
        trained = train_recipe(job, train_part, val, work_dir=Path(folder), on_epoch=lambda row: None)
        return trained.model


@torch.no_grad()
def bag_logits(model: TeacherStudent, bags: BagSet) -> Tensor:
    """Return the logit of class 1 against class 0 of each bag."""
    output = model.eval()(torch.from_numpy(bags.features).float(), torch.from_numpy(bags.offsets))
    logits: Tensor = output.bag_logits[:, 1] - output.bag_logits[:, 0]
    return logits


def bag_means(bags: BagSet) -> Tensor:
    """Return the mean of each bag's features."""
    values = torch.from_numpy(bags.features).double()
    return torch.stack([values[start:end].mean(dim=0) for start, end in pairwise(bags.offsets.tolist())])


def linear(ratio: float, means: Mapping[str, Tensor], *, teacher: Tensor, labels: Tensor) -> Tensor:
    """Return the test logits of a linear student: each bag counts for either class by its mixed label."""
    center, spread = means["train"].mean(dim=0), means["train"].std(dim=0).clamp(min=1e-9)
    inputs, test = ((means[name] - center) / spread for name in ("train", "test"))
    mixed = ratio * torch.sigmoid(teacher.double()) + (1.0 - ratio) * labels.double()
    fitted = LogisticRegression(C=PENALTY / inputs.shape[1] ** 0.5, max_iter=2000).fit(
        torch.cat([inputs, inputs]).numpy(),
        np.repeat([1, 0], len(inputs)),
        sample_weight=torch.cat([mixed, 1.0 - mixed]).clamp(min=1e-12).numpy(),
    )
    return torch.from_numpy(fitted.decision_function(test.numpy()))


def accuracy(logits: Tensor, labels: np.ndarray) -> float:
    """Return the share of bags that are called right at even odds."""
    return float(((logits > 0).numpy() == (labels == 1)).mean())


def table(cohort: str, outcomes: Sequence[Outcome]) -> str:
    """Return a cohort's table: mean accuracy at each soft ratio, at the suggested one, and what that lost."""
    ratios = [f"{ratio:g}" for ratio in RATIOS]
    lines = [
        f"| {cohort}, student | {' | '.join(ratios)} | suggested | lost to the best ratio | within 1 point |",
        f"|---|{'---|' * (len(ratios) + 3)}",
    ]
    for student in STUDENTS:
        by_ratio = {ratio: [one.accuracy[student][ratio] for one in outcomes] for ratio in ratios}
        suggested = [one.accuracy[student][f"{one.suggested:g}"] for one in outcomes]
        best = max(ratios, key=lambda ratio: fmean(by_ratio[ratio]))
        lost = [top - own for top, own in zip(by_ratio[best], suggested, strict=True)]
        spread = stdev(lost) / len(lost) ** 0.5 if len(lost) > 1 else 0.0
        cells = [f"{fmean(by_ratio[ratio]):.3f}" for ratio in ratios]
        verdict = "yes" if fmean(lost) <= POINT else "no"
        lines.append(
            f"| {student} | {' | '.join(cells)} | {fmean(suggested):.3f} | "
            f"{fmean(lost):.3f} ± {spread:.3f} ({best}) | {verdict} |"
        )
    chosen = ", ".join(f"{one.suggested:g}" for one in outcomes)
    teacher = fmean(one.teacher for one in outcomes)
    return "\n".join([*lines, "", f"Teacher {teacher:.3f}. Suggested, seed by seed: {chosen}.", ""]) + "\n"


if __name__ == "__main__":
    main()

"""Do models disagree more on slides that their mean gets wrong? What an ensemble's spread is worth.

Each of the 60 patients of CRC nuclei is held out once, a fifth at a time. On the others five WENO models are
trained, one a fold: a different fifth validates (and sets its threshold), the rest trains. All five then
score the held-out patients, which none of them has seen: the only slides on which an ensemble of folds may be
judged, for each slide of a run was trained on by most of its models. The mean probability is called at the
mean threshold; the call is wrong or right. Asked is the AUROC of finding the wrong ones by the spread (sd),
and by two numbers that one model gives too: how close the mean is to the threshold, and to one half.

    python benchmarks/ensemble_spread.py --data ../shared/data
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from crc_models import CLASSES, settings_of
from stain_shift import Patient, read_patients
from wsi_kd.bags.datasets import BagSet
from wsi_kd.core.files import publish_json
from wsi_kd.features.stain_texture import stain_texture
from wsi_kd.inference.ensemble import combine
from wsi_kd.inference.predict import predict_bag
from wsi_kd.inference.slide_prediction import slide_scores
from wsi_kd.mil.weno import TeacherStudent
from wsi_kd.settings.all import Settings
from wsi_kd.steps.train import Job, train_recipe
from wsi_kd.steps.train_validation import choose_thresholds, score_validation

PARTS: Final = 5
SCORES: Final = ("teacher", "student")


class Called(NamedTuple):
    """One held-out slide by one score of the ensemble."""

    probability: float
    threshold: float
    spread: float
    label: int

    @property
    def wrong(self) -> bool:
        """Whether the call is not the label."""
        return (self.probability >= self.threshold) != bool(self.label)


class Member(NamedTuple):
    """One model of the ensemble."""

    model: TeacherStudent
    thresholds: dict[str, float | None]


def bags_of(patients: Sequence[Patient]) -> BagSet:
    """Describe every patient's nuclei."""
    features = [stain_texture(one.tiles) for one in patients]
    counts = [len(one) for one in features]
    return BagSet(
        slide_ids=tuple(str(index) for index in range(len(patients))),
        features=np.concatenate(features),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        labels=np.array([int(one.labels.any()) for one in patients]),
        tile_labels=np.concatenate([one.labels for one in patients]).astype(np.int8),
        coords=np.zeros((sum(counts), 2), np.int64),
        header={},
    )


def parts_of(indices: np.ndarray, labels: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Part slides into fifths with as many positives each: (the others, the fifth)."""
    folds = StratifiedKFold(PARTS, shuffle=True, random_state=seed)
    return [(indices[rest], indices[part]) for rest, part in folds.split(indices, labels[indices])]


def train_member(
    bags: BagSet, train: np.ndarray, val: np.ndarray, *, settings: Settings, seed: int
) -> Member:
    """Train one model and choose its thresholds."""
    chosen, validated = (bags.select([str(index) for index in part]) for part in (train, val))
    job = Job("weno", seed, 0, CLASSES, settings)
    with tempfile.TemporaryDirectory() as folder:
        trained = train_recipe(job, chosen, validated, work_dir=Path(folder), on_epoch=lambda _: None)
    scored = score_validation(trained.model, validated, settings=settings.train)
    return Member(trained.model, choose_thresholds(scored, settings=settings.train))


def ask(members: Sequence[Member], bag: BagSet, *, settings: Settings) -> dict[str, Called]:
    """Let all models score one slide (a set of one bag), by teacher and student."""
    predictions = [
        predict_bag(
            member.model,
            bag.features,
            student_pooling=settings.train.student_pooling,
            top_k=settings.train.top_k,
            device="cpu",
        )
        for member in members
    ]
    together = combine(predictions)
    means = slide_scores(together.mean)
    return {
        score: Called(
            probability=means[score],
            threshold=float(np.mean([member.thresholds[score] for member in members])),
            spread=together.spread[score].sd,
            label=int(bag.labels[0]),
        )
        for score in SCORES
    }


def measure(bags: BagSet, *, settings: Settings, seed: int) -> list[dict[str, Called]]:
    """Hold every slide out once; return what the ensembles say of them."""
    called = []
    for others, held in parts_of(np.arange(len(bags.labels)), bags.labels, seed):
        members = [
            train_member(bags, train, val, settings=settings, seed=seed)
            for train, val in parts_of(others, bags.labels, seed)
        ]
        called += [ask(members, bags.select([str(index)]), settings=settings) for index in held]
    return called


def finds_errors(called: Sequence[Called]) -> dict[str, float]:
    """Return how many calls are wrong, and the AUROC of finding them by each number."""
    wrong = np.array([one.wrong for one in called])
    numbers = {
        "spread": [one.spread for one in called],
        "near the threshold": [-abs(one.probability - one.threshold) for one in called],
        "near one half": [-abs(one.probability - 0.5) for one in called],
    }
    found = {"slides": float(len(called)), "wrong": float(wrong.sum())}
    if 0 < wrong.sum() < len(wrong):
        found |= {name: float(roc_auc_score(wrong, values)) for name, values in numbers.items()}
    return found


def main() -> None:
    """Print the table, and write it where `--json` says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that holds patches/")
    parser.add_argument("--nuclei", type=int, default=1000, help="of each patient, at most")
    parser.add_argument("--seeds", type=int, default=3, help="so often all is parted anew")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    torch.set_num_threads(1)
    bags = bags_of(read_patients(given.data, nuclei=given.nuclei, seed=0))
    settings = settings_of(epochs=given.epochs)
    runs = [measure(bags, settings=settings, seed=seed) for seed in range(given.seeds)]
    table = {score: [finds_errors([one[score] for one in run]) for run in runs] for score in SCORES}
    print("| score | seed | slides | wrong | spread | near the threshold | near one half |")
    print("|---|---|---|---|---|---|---|")
    for score, rows in table.items():
        for seed, row in enumerate(rows):
            areas = [f"{row[name]:.2f}" if name in row else "" for name in list(rows[0])[2:]]
            print(
                f"| {score} | {seed} | {row['slides']:.0f} | {row['wrong']:.0f} | " + " | ".join(areas) + " |"
            )
    if given.json:
        publish_json(given.json, table)


if __name__ == "__main__":
    main()

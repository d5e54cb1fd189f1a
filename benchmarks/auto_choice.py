"""What recipe auto chooses where the truth is known: localized witnesses, and a shift of every instance.

Localized: the problems of gaussian_bags. Diffuse: the same clusters without witnesses, every point of a
positive bag shifted by 0.1 to 0.3 standard deviations along one axis. One training of auto gives the
verdict at any tolerance, for its history holds both paired differences and their standard errors.

    python benchmarks/auto_choice.py --seeds 2
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch

from gaussian_bags import FIRST_SEED, GaussianProblem, draw_bags
from wsi_kd.bags.datasets import BagSet
from wsi_kd.settings.models import TrainSettings
from wsi_kd.steps.train_plan import plan_architecture, plan_distillation, plan_optimization
from wsi_kd.training.recipes.auto import train_auto

LOCALIZED: Final = {
    "two types, 10 %": GaussianProblem(easy=4.0, hard=2.5, same_axis=False, witness_rate=0.10),
    "two types, 5 %": GaussianProblem(easy=4.0, hard=2.5, same_axis=False, witness_rate=0.05),
    "single, 5 %": GaussianProblem(easy=3.0, hard=3.0, same_axis=True, witness_rate=0.05),
}
DIFFUSE: Final = {f"diffuse, {shift}": shift for shift in (0.1, 0.2, 0.3)}
UNSHIFTED: Final = GaussianProblem(easy=0.0, hard=0.0, same_axis=True, witness_rate=0.10)
TOLERANCES: Final = (1.0, 2.0)
PLAN: Final = TrainSettings(
    epochs=30,
    patience=30,
    learning_rate=2e-3,
    bags_per_step=8,
    hidden_dim=64,
    attention_dim=32,
    precision="float32",
    device="cpu",
)


class Choice(NamedTuple):
    """The verdict on one draw: weno's loss less abmil's in standard errors."""

    problem: str
    seed: int
    teacher: float
    student: float
    """Of weno's student, calibrated, against abmil's teacher."""

    def takes_abmil(self, tolerance: float) -> bool:
        """Tell what auto chooses with this tolerance."""
        return max(self.teacher, self.student) > tolerance


def draw(problem: str, seed: int) -> BagSet:
    """Draw the bags of one part."""
    if problem in LOCALIZED:
        return draw_bags(LOCALIZED[problem], seed).bags
    bags = draw_bags(UNSHIFTED, seed).bags
    axes, _ = np.linalg.qr(np.random.default_rng(12345).standard_normal((bags.features.shape[1],) * 2))
    positive = np.repeat(bags.labels == 1, np.diff(bags.offsets))
    features = bags.features + DIFFUSE[problem] * positive[:, None] * axes[0]
    return bags._replace(features=features.astype(np.float32))


def choose(job: tuple[str, int]) -> Choice:
    """Train auto on one draw."""
    torch.set_num_threads(1)
    problem, seed = job
    train, val = (draw(problem, FIRST_SEED[part] + seed) for part in ("train", "val"))
    with tempfile.TemporaryDirectory() as folder:
        trained = train_auto(
            train,
            val,
            classes=2,
            architecture=plan_architecture(PLAN),
            optimization=plan_optimization(PLAN, seed=seed),
            distillation=plan_distillation(PLAN),
            mining=None,
            tolerance=PLAN.auto.tolerance,
            work_dir=Path(folder),
            on_epoch=lambda row: None,
        )
    row = trained.history[0]
    teacher, student = (
        float(row[f"{role}_difference"] or 0.0) / max(float(row[f"{role}_standard_error"] or 0.0), 1e-12)
        for role in ("teacher", "student")
    )
    return Choice(problem, seed, teacher, student)


def table(choices: Sequence[Choice]) -> str:
    """Markdown: one row a problem."""
    heads = ["problem", "teacher's difference / its error", "student's difference / its error"]
    heads += [f"takes abmil at tolerance {tolerance:g}" for tolerance in TOLERANCES]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for problem in dict.fromkeys(choice.problem for choice in choices):
        found = [choice for choice in choices if choice.problem == problem]
        cells = [
            ", ".join(f"{getattr(choice, role):+.1f}" for choice in found) for role in ("teacher", "student")
        ]
        cells += [
            f"{sum(choice.takes_abmil(limit) for choice in found)} of {len(found)}" for limit in TOLERANCES
        ]
        lines.append(f"| {problem} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and print markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    jobs = list(product([*LOCALIZED, *DIFFUSE], range(chosen.seeds)))
    choices = []
    with get_context("spawn").Pool(chosen.processes) as pool:
        for done in pool.imap(choose, jobs, chunksize=1):
            choices.append(done)
            sys.stderr.write(f"{done}\n")
    sys.stdout.write(table(choices))


if __name__ == "__main__":
    main()

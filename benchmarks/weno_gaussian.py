"""WENO on drawn bags whose truth is known: the Gaussian table of docs/weno.md.

A bag holds 100 points in 64 dimensions. Negative points come from four unit-variance clusters of norm 2; in
positive bags a share of the points is shifted. `two_types`: half of them by 4.0 along one axis (easy), half
by 2.5 along another (hard); `single`: all by 3.0 along one. 200 bags each to train, to select on and to test.

    python benchmarks/weno_gaussian.py --seeds 2 --problems two_types_10
    python benchmarks/weno_gaussian.py
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from wsi_kd.bags.datasets import BagSet
from wsi_kd.core.files import publish_json, publish_text
from wsi_kd.core.provenance import stamp
from wsi_kd.kd.pseudo_labels import PseudoLabelMode
from wsi_kd.mil.weno import TeacherStudent
from wsi_kd.settings.models import TrainSettings
from wsi_kd.steps.train_plan import plan_architecture, plan_distillation, plan_optimization
from wsi_kd.training.loop import Trained
from wsi_kd.training.plan import Mining
from wsi_kd.training.recipes.abmil import train_abmil
from wsi_kd.training.recipes.weno import train_weno

Scores: TypeAlias = dict[str, float]
"""Column -> AUC."""
Parts: TypeAlias = Mapping[str, BagSet]
Method: TypeAlias = Callable[[Parts, int, Path], Trained]
"""Parts, seed and a work folder -> the trained models."""

DIM: Final = 64
BAGS: Final = 200
INSTANCES: Final = 100
FIRST_SEED: Final = {"train": 1000, "val": 2000, "test": 3000}
LOGISTIC: Final = "single-instance logistic regression"
COLUMNS: Final = {
    "bag_teacher": "bag AUC, teacher",
    "bag_student": "bag AUC, student max",
    "attention": "instance AUC, attention",
    "evidence": "instance AUC, evidence",
    "student": "instance AUC, student",
    "student_hard": "student, hard positives",
}

PLAN: Final = TrainSettings(
    epochs=50,
    patience=50,
    learning_rate=2e-3,
    bags_per_step=8,
    hidden_dim=64,
    attention_dim=32,
    student_pooling="max",
    precision="float32",
    device="cpu",
)
PAPERS_MINING: Final = Mining(
    start_epoch=10,
    threshold=0.5,
    drop_probability=1.0,
    max_drop_fraction=1.0,
    symmetric=False,
    guard=True,
    guard_drop=0.1,
)


class Problem(NamedTuple):
    """How witnesses are shifted, and how many there are."""

    easy: float
    hard: float
    same_axis: bool
    witness_rate: float


PROBLEMS: Final = {
    "two_types_10": Problem(easy=4.0, hard=2.5, same_axis=False, witness_rate=0.10),
    "two_types_05": Problem(easy=4.0, hard=2.5, same_axis=False, witness_rate=0.05),
    "single_10": Problem(easy=3.0, hard=3.0, same_axis=True, witness_rate=0.10),
    "single_05": Problem(easy=3.0, hard=3.0, same_axis=True, witness_rate=0.05),
}


class Drawn(NamedTuple):
    """Bags, and which of their instances are hard positives."""

    bags: BagSet
    hard: np.ndarray


class Job(NamedTuple):
    """What one process measures."""

    problem: str
    seed: int
    method: str
    part: str


class Row(NamedTuple):
    """One method on one draw of a problem."""

    problem: str
    method: str
    epoch: str
    seed: int
    aucs: Scores


def draw_bags(problem: Problem, seed: int) -> Drawn:
    """Draw the bags of one part; positive bags come first."""
    axes, _ = np.linalg.qr(np.random.default_rng(12345).standard_normal((DIM, DIM)))
    easy_axis, hard_axis, centers = axes[0], axes[0 if problem.same_axis else 1], 2.0 * axes[2:6]
    generator = np.random.default_rng(seed)
    features = np.empty((BAGS, INSTANCES, DIM), np.float32)
    truth, hard = np.zeros((BAGS, INSTANCES), np.int8), np.zeros((BAGS, INSTANCES), np.bool_)
    labels = (np.arange(BAGS) < BAGS // 2).astype(np.int64)
    witnesses = max(1, round(problem.witness_rate * INSTANCES))
    for bag, label in enumerate(labels):
        points = centers[generator.integers(0, 4, INSTANCES)] + generator.standard_normal((INSTANCES, DIM))
        if label:
            chosen = generator.permutation(INSTANCES)[:witnesses]
            first, second = np.split(chosen, [(witnesses + 1) // 2])
            points[first] += problem.easy * easy_axis
            points[second] += problem.hard * hard_axis
            truth[bag, chosen], hard[bag, second] = 1, True
        features[bag] = points
    bags = BagSet(
        slide_ids=tuple(f"bag_{bag:03d}" for bag in range(BAGS)),
        features=features.reshape(-1, DIM),
        offsets=np.arange(BAGS + 1, dtype=np.int64) * INSTANCES,
        labels=labels,
        tile_labels=truth.reshape(-1),
        coords=np.zeros((BAGS * INSTANCES, 2), np.int64),
        header={},
    )
    return Drawn(bags, hard.reshape(-1))


def measure_logistic(train: BagSet, drawn: Drawn) -> Scores:
    """Logistic regression of instances on the label of their bag."""
    model = LogisticRegression(max_iter=2_000).fit(train.features, np.repeat(train.labels, INSTANCES))
    scores = model.decision_function(drawn.bags.features)
    columns = {"student": scores, "bag_student": scores.reshape(BAGS, INSTANCES).max(axis=1)}
    return score(columns, drawn)


def measure_model(model: TeacherStudent, drawn: Drawn) -> Scores:
    """Score a model on drawn bags, all columns it has."""
    with torch.no_grad():
        output = model(torch.from_numpy(drawn.bags.features), torch.from_numpy(drawn.bags.offsets))
    columns = {"bag_teacher": output.bag_logits.diff(dim=1)[:, 0], "attention": output.attention_logits}
    columns["evidence"] = output.evidence.diff(dim=1)[:, 0]
    if output.instance_logits is not None:
        columns["student"] = output.instance_logits
        columns["bag_student"] = output.instance_logits.view(BAGS, INSTANCES).amax(dim=1)
    return score({name: column.numpy() for name, column in columns.items()}, drawn)


def score(columns: Mapping[str, np.ndarray], drawn: Drawn) -> Scores:
    """AUC of each column: those named bag_* of bags, the others of instances."""
    truth = drawn.bags.tile_labels == 1
    found = {}
    for name, values in columns.items():
        labels = drawn.bags.labels if name.startswith("bag_") else truth
        found[name] = float(roc_auc_score(labels, values))
    if "student" in columns:
        chosen = drawn.hard | ~truth
        found["student_hard"] = float(roc_auc_score(truth[chosen], columns["student"][chosen]))
    return found


def distilled(*, mining: Mining | None = None, **changes: Any) -> Method:
    """Return the method WENO with these changes of `PLAN`."""

    def train(parts: Parts, seed: int, work_dir: Path) -> Trained:
        return train_weno(
            parts["train"],
            parts["val"],
            architecture=plan_architecture(PLAN),
            optimization=plan_optimization(PLAN, seed=seed),
            distillation=plan_distillation(PLAN)._replace(**changes),
            mining=mining,
            work_dir=work_dir,
            on_epoch=lambda row: None,
        )

    return train


def teacher_alone(parts: Parts, seed: int, work_dir: Path) -> Trained:
    """Train the baseline ABMIL."""
    return train_abmil(
        parts["train"],
        parts["val"],
        classes=2,
        architecture=plan_architecture(PLAN),
        optimization=plan_optimization(PLAN, seed=seed),
        work_dir=work_dir,
        on_epoch=lambda row: None,
    )


METHODS: Final[dict[str, Method]] = {
    "ABMIL": teacher_alone,
    **{f"WENO {mode}": distilled(pseudo_label=mode) for mode in get_args(PseudoLabelMode)},
    "WENO released": distilled(schedule="released", pseudo_label="minmax_global"),
    "WENO evidence, average .99": distilled(teacher_average=0.99),
    **{f"WENO evidence, floor {floor}": distilled(label_floor=floor) for floor in (0.3, 0.6, 1.0)},
    "WENO evidence, paper's mining, guarded": distilled(mining=PAPERS_MINING),
    "WENO evidence, paper's mining, no guard": distilled(mining=PAPERS_MINING._replace(guard=False)),
}


def measure(job: Job) -> list[Row]:
    """Measure a method on one draw of a problem: one row an epoch shown."""
    torch.set_num_threads(1)
    problem = PROBLEMS[job.problem]
    drawn = draw_bags(problem, FIRST_SEED[job.part] + job.seed)
    parts = {part: draw_bags(problem, FIRST_SEED[part] + job.seed).bags for part in ("train", "val")}
    if job.method == LOGISTIC:
        return [Row(job.problem, job.method, "none", job.seed, measure_logistic(parts["train"], drawn))]
    with tempfile.TemporaryDirectory() as folder:
        trained = METHODS[job.method](parts, job.seed, Path(folder))
    models = {"selected": trained.model, "last": trained.last_model}
    return [
        Row(job.problem, job.method, epoch, job.seed, measure_model(model, drawn))
        for epoch, model in models.items()
    ]


def table(rows: Sequence[Row], problem: str) -> str:
    """Markdown of one problem: mean +- standard deviation over the seeds."""
    kinds = list(dict.fromkeys((row.method, row.epoch) for row in rows if row.problem == problem))
    lines = ["| method | epoch | " + " | ".join(COLUMNS.values()) + " |", "|---|---|" + "---|" * len(COLUMNS)]
    for method, epoch in kinds:
        found = [row.aucs for row in rows if (row.problem, row.method, row.epoch) == (problem, method, epoch)]
        cells = [summary([aucs[column] for aucs in found if column in aucs]) for column in COLUMNS]
        lines.append(f"| {method} | {epoch} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(values: Sequence[float]) -> str:
    """Mean and, of several values, standard deviation; empty without values."""
    spread = f" +- {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{fmean(values):.3f}{spread}" if values else ""


def write(out: Path, rows: Sequence[Row], plan: Mapping[str, Any]) -> None:
    """Write what is measured so far: a long night that ends early still leaves its table."""
    problems = dict.fromkeys(row.problem for row in rows)
    publish_text(out / "table.md", "\n".join(f"### {name}\n\n{table(rows, name)}\n" for name in problems))
    measured = [row._asdict() for row in rows]
    publish_json(out / "metrics.json", {**stamp("weno_gaussian", plan), "rows": measured})


def main() -> None:
    """Measure what the command line names; print markdown, write it and JSON below --out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [LOGISTIC, *METHODS]
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--methods", nargs="*", choices=names, default=names)
    parser.add_argument(
        "--part", choices=FIRST_SEED, default="test", help="what is scored; val to compare ideas"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/weno_gaussian"))
    chosen = parser.parse_args()
    jobs = [
        Job(problem, seed, method, chosen.part)
        for problem in chosen.problems
        for method in chosen.methods
        for seed in range(chosen.seeds)
    ]
    plan = {name: getattr(chosen, name) for name in ("part", "problems", "seeds", "methods")}
    rows: list[Row] = []
    with get_context("spawn").Pool(chosen.processes) as pool:
        for done in pool.imap(measure, jobs, chunksize=1):
            rows += done
            write(chosen.out, rows, plan)
    print((chosen.out / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

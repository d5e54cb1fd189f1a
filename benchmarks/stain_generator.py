"""A network that normalizes stains, made small: what an energy model (VEM) adds, and which sampler is stable.

A U-Net learns from real H&E crops, stained at random, to give what Macenko's method makes of them
(stain_pairs.py). A U-Net with less than an eighth of its parameters learns its outputs, by L1 on all channels
(complete) or on green alone (incomplete: red and blue are left open), and goes on from there with the same
base loss alone or with VEM besides, on each sampler of wsi_kd/kd:

* reference: the released chain, 10 steps, eta 100, noise .005; temperature 1e-7
* consistent: 10 Langevin steps of 1e-4 at temperature 1
* annealed: 10 Langevin steps that fall from 1e-3 to 1e-5, temperature 1e-4
* persistent: five such steps a visit, each training crop with its own chain, 2 % restarted

An energy is the mean over places; at a temperature of 1 it says nothing against noise on a crop's 6,912
numbers, and 1e-4 is about one over their number. Stable means: no failure, a mean gap between the energies of
samples and teacher's outputs of at most `MAX_GAP`, and PSNR to the teacher no further below that of the base
loss alone than the latter's standard deviation over the seeds.

    OMP_NUM_THREADS=1 python benchmarks/stain_generator.py --data ../shared/data --json stain_generator.json

What was trained is kept in --out; a killed run goes on from there.
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from stain_generator_tables import ALONE, FIGURES, gap_chart, table
from stain_judge import TEST_PX, Judge, run
from stain_pairs import JITTER, PARTS, Pairs, draw_pairs, read_source
from wsi_kd.core.errors import RunFailed
from wsi_kd.core.files import content_hash, publish, publish_json, publish_text, read_json
from wsi_kd.kd.cost import measure_cost
from wsi_kd.kd.dense_networks import UNet
from wsi_kd.kd.energy_chains import AnnealedSampler, PersistentSampler, tempered_steps
from wsi_kd.kd.energy_compression import ImageEnergy, LangevinSampler, Sampler, VEMLoss

BASES: Final[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "complete": nn.functional.l1_loss,
    "green alone": lambda given, wanted: nn.functional.l1_loss(given[:, 1], wanted[:, 1]),
}
SAMPLERS: Final[dict[str, Callable[[int], Sampler]]] = {
    "reference": lambda _rows: LangevinSampler.reference(),
    "consistent": lambda _rows: LangevinSampler.consistent(1e-4),
    "annealed": lambda _rows: AnnealedSampler(tempered_steps(1e-3, 1e-5, count=10, temperature=1e-4)),
    "persistent": lambda rows: PersistentSampler(
        tempered_steps(1e-3, 1e-5, count=5, temperature=1e-4), rows=rows, restart=0.02
    ),
}
LATENCY_PX: Final = 256
WEIGHTS: Final = "weights/mobilenet_v2_imagenet_q8dequant_fp16.pt"
GAP_EVERY: Final = 10


class Plan(NamedTuple):
    """What is trained; kept results are of one plan."""

    teacher_width: int = 12
    student_width: int = 4
    crops: int = 768
    """Of the training part, for the teacher."""
    student_crops: int = 192
    """The first of them, for the students; each has a persistent chain."""
    crop_px: int = 48
    tested: int = 128
    batch: int = 8
    teacher_steps: int = 1200
    start_steps: int = 400
    """Of the base loss alone, the same ones for all rows of a seed."""
    steps: int = 250
    weight: float = 0.05
    """Of the energy model's loss."""
    samplers: tuple[str, ...] = tuple(SAMPLERS)
    energy_rate: float = 1e-3
    student_rate: float = 2e-3


class Taught(NamedTuple):
    """One student."""

    network: UNet
    gaps: list[float]
    """Mean energy of samples less that of the teacher's outputs, means of `GAP_EVERY` steps."""
    failure: str | None
    seconds: float


def batches(rows: int, *, size: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Yield row numbers, each row once an epoch."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(rows, generator=generator)
    at = 0
    for _ in range(steps):
        if at + size > rows:
            order, at = torch.randperm(rows, generator=generator), 0
        yield order[at : at + size]
        at += size


def train_teacher(train: Pairs, val: Pairs, plan: Plan) -> UNet:
    """Train the large network on the targets; the weights of the best validation loss are kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = UNet(plan.teacher_width)
    optimizer = torch.optim.Adam(network.parameters(), lr=plan.student_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, plan.teacher_steps)
    best, kept = float("inf"), copy.deepcopy(network.state_dict())
    for step, rows in enumerate(
        batches(len(train.inputs), size=plan.batch, steps=plan.teacher_steps, seed=0), 1
    ):
        _step(optimizer, nn.functional.l1_loss(network(train.inputs[rows]), train.targets[rows]))
        schedule.step()
        if step % 100 == 0:
            loss = float(nn.functional.l1_loss(run(network, val.inputs), val.targets))
            sys.stderr.write(f"teacher, step {step}: validation L1 {loss:.4f}\n")
            if loss < best:
                best, kept = loss, copy.deepcopy(network.state_dict())
    network.load_state_dict(kept)
    return network.eval().requires_grad_(requires_grad=False)


def teach_base(student: UNet, train: Pairs, *, base: str, steps: int, plan: Plan, seed: int) -> Taught:
    """Train a student on the teacher's outputs (`train.targets`) by its base loss alone."""
    optimizer = torch.optim.Adam(student.parameters(), lr=plan.student_rate)
    began = time.process_time()
    for rows in batches(len(train.inputs), size=plan.batch, steps=steps, seed=seed):
        _step(optimizer, BASES[base](student(train.inputs[rows]), train.targets[rows]))
    return Taught(student, [], None, time.process_time() - began)


def teach_vem(student: UNet, train: Pairs, *, base: str, sampler: str, plan: Plan, seed: int) -> Taught:
    """Train a student with VEM beside its base loss; where energies fail it stays as it was then."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vem = VEMLoss(ImageEnergy(hidden=16), SAMPLERS[sampler](len(train.inputs)), seed=seed)
    learner = torch.optim.Adam(student.parameters(), lr=plan.student_rate)
    critic = torch.optim.Adam(vem.energy.parameters(), lr=plan.energy_rate, betas=(0.0, 0.999))
    began, gaps, failure = time.process_time(), [], None
    try:
        for rows in batches(len(train.inputs), size=plan.batch, steps=plan.steps, seed=seed):
            wanted, given = train.targets[rows], student(train.inputs[rows])
            if isinstance(vem.sampler, PersistentSampler):
                vem.sampler.expect(rows)
            samples = vem.sample(given)
            _step(critic, vem.energy_loss(wanted, given, samples))
            added = vem.student_loss(wanted, given, samples)
            gaps.append(-added.item())
            _step(learner, BASES[base](given, wanted) + plan.weight * added)
    except RunFailed as error:
        failure = str(error)
    means = [fmean(gaps[at : at + GAP_EVERY]) for at in range(0, len(gaps), GAP_EVERY)]
    return Taught(student, means, failure, time.process_time() - began)


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def compare(train: Pairs, judge: Judge, *, base: str, plan: Plan, seed: int) -> dict[str, Any]:
    """Train one seed's students of a base loss; return figures by sampler, `ALONE` for none."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1000 + seed)
        student = UNet(plan.student_width)
    teach_base(student, train, base=base, steps=plan.start_steps, plan=plan, seed=seed)
    rows = {}
    for name in (ALONE, *plan.samplers):
        own, seeded = copy.deepcopy(student), 2000 + seed
        if name == ALONE:
            taught = teach_base(own, train, base=base, steps=plan.steps, plan=plan, seed=seeded)
        else:
            taught = teach_vem(own, train, base=base, sampler=name, plan=plan, seed=seeded)
        rows[name] = {
            **judge.figures(run(taught.network, judge.pairs.inputs)),
            "gaps": taught.gaps,
            "failure": taught.failure,
            "ms_per_step": 1e3 * taught.seconds / plan.steps,
        }
        told = ", ".join(f"{figure} {rows[name][figure]:.4g}" for figure in FIGURES)
        sys.stderr.write(f"{base}, seed {seed}, {name}: {told}, {taught.seconds:.0f} s\n")
    return rows


def main() -> None:
    """Train, print the tables, keep figures and chart where asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder that holds patches/, wsi/ and weights/"
    )
    parser.add_argument("--out", type=Path, default=Path("results/stain_generator"), help="what was trained")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bases", nargs="+", choices=BASES, default=list(BASES))
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--weight", type=float, default=Plan().weight, help="of the energy model's loss")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--plot", type=Path, help="SVG file for the energy gaps of the last base loss")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    plan = Plan(weight=chosen.weight, samplers=tuple(chosen.samplers))
    pairs = {
        part: draw_pairs(
            [read_source(chosen.data / name) for name in names],
            count={"train": plan.crops, "val": plan.tested, "test": plan.tested}[part],
            edge=plan.crop_px if part == "train" else TEST_PX,
            seed=number,
        )
        for number, (part, names) in enumerate(PARTS.items())
    }
    teacher = kept_teacher(chosen.out, pairs, plan)
    judge = Judge(pairs["test"], teacher, weights=chosen.data / WEIGHTS)
    inputs = pairs["train"].inputs[: plan.student_crops]
    taught_by = Pairs(inputs, run(teacher, inputs))
    found: dict[str, Any] = {"plan": plan._asdict(), **whole(judge, teacher, plan), "bases": {}}
    for seed in range(chosen.seeds):  # all bases of a seed first: a run that is cut off leaves whole seeds
        for base in chosen.bases:
            rows = kept_rows(chosen.out, taught_by, judge, base=base, plan=plan, seed=seed)
            found["bases"].setdefault(base, []).append(rows)
    sys.stdout.write(table(found))
    if chosen.json:
        publish_json(chosen.json, found)
    if chosen.plot:
        publish_text(chosen.plot, gap_chart(found["bases"][chosen.bases[-1]], every=GAP_EVERY))


def whole(judge: Judge, teacher: UNet, plan: Plan) -> dict[str, Any]:
    """Return what no student's training changes: the inputs and the teacher, and what each network costs."""
    image = torch.zeros(1, 3, LATENCY_PX, LATENCY_PX)
    costs = {
        "teacher": measure_cost(teacher, image),
        "student": measure_cost(UNet(plan.student_width), image),
    }
    return {
        "input": judge.figures(judge.pairs.inputs),
        "teacher": judge.figures(judge.teacher),
        "costs": {name: cost._asdict() for name, cost in costs.items()},
    }


def kept_teacher(out: Path, pairs: dict[str, Pairs], plan: Plan) -> UNet:
    """Return the teacher, from an earlier run where that left it."""
    students = ("student_width", "student_crops", "start_steps", "steps", "weight", "energy_rate", "samplers")
    teachers = {name: value for name, value in plan._asdict().items() if name not in students}
    path = out / f"teacher-{_key(teachers)}.pt"
    if path.is_file():
        teacher = UNet(plan.teacher_width)
        teacher.load_state_dict(torch.load(path, weights_only=True))
        return teacher.eval().requires_grad_(requires_grad=False)
    teacher = train_teacher(pairs["train"], pairs["val"], plan)
    with publish(path) as temporary:
        torch.save(teacher.state_dict(), temporary)
    return teacher


def kept_rows(out: Path, train: Pairs, judge: Judge, *, base: str, plan: Plan, seed: int) -> dict[str, Any]:
    """Return a seed's rows, from an earlier run where that left them."""
    path = out / f"{base.replace(' ', '_')}-seed{seed}-{_key(plan._asdict())}.json"
    if not path.is_file():
        publish_json(path, {"rows": compare(train, judge, base=base, plan=plan, seed=seed)})
    return dict(read_json(path, remake="delete it")["rows"])


def _key(plan: dict[str, Any]) -> str:
    return content_hash([plan, PARTS, JITTER._asdict()])[:8]


if __name__ == "__main__":
    main()

"""How fast a joint WENO step is, against what bounds it: ratios measured in one run.

    python benchmarks/train_step.py
    python benchmarks/train_step.py --quick --parts products --json train_step.json

| part | what |
|---|---|
| `products` | a step on one bag of 10,000 x 1,024 against its own matrix products, issued back to back |
| `released` | an epoch one bag a step, two passes, released widths, against the joint epoch |
| `linear` | seconds a 1,000 instances, one bag of 1,000 to 200,000 |

What is compared takes turns, so that a machine that slows down slows all of it; with one thread the seconds
are the processor's for this process alone, so that others' work on the machine does not count. Seconds of
different machines or runs do not compare; ratios do. Epochs on a GPU: train_resident.py; memory:
train_memory.py.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple, TypeAlias
from unittest.mock import patch

import numpy as np
import torch

from bench_record import MeasuredTable, bench_record, measured_table
from released_loop import ReleasedWidths, run_epoch
from wsi_kd.bags.datasets import BagSet
from wsi_kd.bags.packing import pack
from wsi_kd.core.files import publish_json
from wsi_kd.settings.models import TrainSettings
from wsi_kd.steps.train_plan import plan_architecture, plan_distillation, plan_optimization
from wsi_kd.training import schedules
from wsi_kd.training.loop import Run, start_run
from wsi_kd.training.losses import LossLedger

Row: TypeAlias = dict[str, Any]
FEATURE_DIM: Final = 1024
CLASSES: Final = 2
DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Sizes(NamedTuple):
    """How much is measured."""

    bag: int
    released_bags: tuple[int, ...]
    linear: tuple[int, ...]
    repetitions: int


FULL: Final = Sizes(10_000, (1_000,) * 4, (1_000, 5_000, 20_000, 50_000, 200_000), 9)
QUICK: Final = Sizes(300, (60, 40), (100, 300), 2)


def draw_bags(sizes: Sequence[int]) -> BagSet:
    """Draw bags of standard normal float16 features, every other one positive."""
    total = sum(sizes)
    rng = np.random.default_rng(0)
    return BagSet(
        slide_ids=tuple(f"bag_{index}" for index in range(len(sizes))),
        features=rng.standard_normal((total, FEATURE_DIM), dtype=np.float32).astype(np.float16),
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        labels=np.arange(len(sizes), dtype=np.int64) % CLASSES,
        tile_labels=np.zeros(total, np.int8),
        coords=np.zeros((total, 2), np.int64),
        header={},
    )


@contextmanager
def started(bags: BagSet, settings: TrainSettings) -> Iterator[Run]:
    """Yield a run that trains on `bags`."""
    few = draw_bags((2, 2))
    with start_run(
        few,
        few,
        classes=CLASSES,
        architecture=plan_architecture(settings),
        optimization=plan_optimization(settings, seed=0),
        with_student=True,
    ) as run:
        yield run._replace(train=bags)


def joint_step(run: Run, settings: TrainSettings) -> Callable[[], None]:
    """Return a joint step on all bags of the run, packed beforehand."""
    order = list(range(len(run.train.labels)))
    dtype = torch.float16 if settings.precision == "bfloat16" else torch.float32
    packed = pack(run.train, order, device=run.device, dtype=dtype)
    epoch = joint_epoch(run, settings)

    def step() -> None:
        with patch.object(schedules, "shuffled_batches", lambda _: iter([(order, packed)])):
            epoch()

    return step


def joint_epoch(run: Run, settings: TrainSettings) -> Callable[[], None]:
    """Return an epoch over the run's bags that ends when the device has done it."""
    distillation = plan_distillation(settings)

    def epoch() -> None:
        ledger = LossLedger(run.train.slide_ids)
        schedules.joint_epoch(run, ledger, distillation=distillation, mining=None)
        if run.device.type == "cuda":
            torch.cuda.synchronize()

    return epoch


def take_turns(variants: Mapping[str, Callable[[], None]], repetitions: int) -> dict[str, list[float]]:
    """Time the variants in turn, after a warm-up of each; return the seconds of every repetition."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_initialized()
    clock = time.process_time if alone else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for run in variants.values():
        run()
    for _ in range(repetitions):
        for name, run in variants.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return seconds


def compare(seconds: Mapping[str, list[float]], name: str, against: str) -> Row:
    """Return the medians of two variants, the median of their ratios turn by turn, and of the minima."""
    ratios = [one / other for one, other in zip(seconds[name], seconds[against], strict=True)]
    return {
        "seconds": median(seconds[name]),
        "against_seconds": median(seconds[against]),
        "ratio": median(ratios),
        "ratio_of_smallest": min(seconds[name]) / min(seconds[against]),
    }


def matrix_products(
    settings: TrainSettings, instances: int, *, dtype: torch.dtype, all_of_them: bool
) -> Callable[[], None]:
    """Return the products of a joint step of the default mode with a gated ABMIL teacher, and no more.

    Of a layer k -> m on n instances: n k m forward, k n m for its weight's gradient, n m k for its input's
    (not the projector's: nothing learns below it). Not `all_of_them`: projector and attention layers alone,
    without the bag's, the student's and the attention's heads, which have one column or two.
    """
    hidden, attention = settings.hidden_dim, settings.attention_dim
    heads = 2 * attention + (CLASSES if all_of_them else 0)
    layers = [(FEATURE_DIM, hidden), (hidden, heads)]
    if all_of_them:
        layers += [(attention, 1), (hidden, CLASSES - 1)]
    operands = [
        tuple(torch.randn(shape).to(dtype) for shape in ((instances, k), (m, k), (instances, m)))
        for k, m in layers
    ]

    def run() -> None:
        for index, (values, weight, gradient) in enumerate(operands):
            torch.mm(values, weight.t())
            torch.mm(gradient.t(), values)
            if index:
                torch.mm(gradient, weight)

    return run


def measure_products(sizes: Sizes) -> Iterator[Row]:
    """Compare a step with its products, for two widths and two precisions."""
    for precision, dtype in DTYPES.items():
        for hidden_dim in (512, 256):
            settings = TrainSettings(
                precision=precision, device="cpu", hidden_dim=hidden_dim, attention_dim=hidden_dim // 2
            )
            with started(draw_bags((sizes.bag,)), settings) as run:
                variants = {"step": joint_step(run, settings)}
                for name, every in (("all", True), ("large", False)):
                    variants[name] = matrix_products(settings, sizes.bag, dtype=dtype, all_of_them=every)
                seconds = take_turns(variants, sizes.repetitions)
            for against in ("all", "large"):
                about = {"precision": precision, "hidden_dim": hidden_dim, "products": against}
                yield {**about, "instances": sizes.bag, **compare(seconds, "step", against)}


def measure_released(sizes: Sizes) -> Iterator[Row]:
    """Compare an epoch of the released widths, in float32 as released, with the joint epoch."""
    bags = draw_bags(sizes.released_bags)
    model, generator = ReleasedWidths(FEATURE_DIM), torch.Generator().manual_seed(0)
    for precision in DTYPES:
        settings = TrainSettings(precision=precision, device="cpu", hidden_dim=512, attention_dim=256)
        with started(bags, settings) as run:
            variants = {
                "released": lambda: run_epoch(model, bags, generator=generator),
                "joint": joint_epoch(run, settings),
            }
            seconds = take_turns(variants, max(1, sizes.repetitions // 3))
        yield {"precision": precision, "bags": len(bags.labels), **compare(seconds, "released", "joint")}


def measure_linear(sizes: Sizes) -> Iterator[Row]:
    """Time a step on one bag of each size."""
    for precision in DTYPES:
        settings = TrainSettings(precision=precision, device="cpu", hidden_dim=512, attention_dim=256)
        for instances in sizes.linear:
            with started(draw_bags((instances,)), settings) as run:
                repetitions = sizes.repetitions if instances <= sizes.bag else 3
                seconds = take_turns({"step": joint_step(run, settings)}, repetitions)["step"]
            thousands = instances / 1000
            yield {
                "precision": precision,
                "instances": instances,
                "seconds": median(seconds),
                "seconds_per_1000": median(seconds) / thousands,
                "smallest_seconds_per_1000": min(seconds) / thousands,
            }


PARTS: Final = {
    "products": measure_products,
    "released": measure_released,
    "linear": measure_linear,
}


def table(rows: Sequence[Row]) -> str:
    """Return rows of the same keys as a Markdown table."""
    lines = [f"| {' | '.join(rows[0]).replace('_', ' ')} |", f"|{'---|' * len(rows[0])}"]
    for row in rows:
        cells = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values())
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure the parts named on the command line, print them, and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="tiny bags: whether it runs, not how fast")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    plan = parser.parse_args()
    torch.set_num_threads(plan.threads)
    found: dict[str, list[Row]] = {}
    for part in plan.parts:
        found[part] = list(PARTS[part](QUICK if plan.quick else FULL))
        print(f"{part}\n\n{table(found[part])}\n", flush=True)
    if plan.json:
        about = {"quick": plan.quick, "threads": plan.threads, "parts": plan.parts}
        tables = {part: as_measured(rows) for part, rows in found.items()}
        publish_json(plan.json, bench_record("train_step", about, tables=tables, torch=torch.__version__))


def as_measured(rows: Sequence[Row]) -> MeasuredTable:
    """Return rows of the same keys as a table of raw numbers."""
    formats = {bool: "", str: "", int: ",.0f", float: ".4g"}
    columns = {key.replace("_", " "): formats[type(value)] for key, value in rows[0].items()}
    cells = [[str(cell) if isinstance(cell, bool) else cell for cell in row.values()] for row in rows]
    return measured_table(columns, cells)


if __name__ == "__main__":
    main()

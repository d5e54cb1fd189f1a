"""How much faster one training is in several processes than in one, and what bounds it.

    python benchmarks/train_processes.py --json train_processes.json
    python benchmarks/train_processes.py --quick
    python benchmarks/train_processes.py --processes 1 2 4 --bags 256       # GPUs: one process a card

The recipes of the step train run whole (batches, steps, validation, the state written after every epoch),
with the default settings, in four ways that take turns, every other turn in the opposite order:

| way | what |
|---|---|
| one | one process trains on all bags |
| together | P processes train one model (`train.processes: P`): gloo on a CPU, NCCL between GPUs |
| apart | the same P processes, each a model of its own on 1/P of the bags, and nothing is said: the limit |
| in step | the same in as many steps as together, of 1/P of its bags each: the cost of a step itself |

On a CPU each process has one thread. Seconds are the clock's, of the slowest process, without the first
epoch; `start` is what a training needs before it. `fullest hand` is computed: how many fair shares of a
step's tiles the process has that the others wait for. The last column compares processor seconds of the
busiest process, in which others' work on the machine does not count. Where there are several GPUs each
process has one of its own.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple, get_args

import torch

from bench_record import bench_record, measured_table
from training_workers import Load, Task, Told, Training, Way, Workers, drawn_sizes, workers
from wsi_kd.bags.packing import plan_batches
from wsi_kd.core.files import publish_json
from wsi_kd.core.machine import usable_cpus
from wsi_kd.settings.models import TrainSettings
from wsi_kd.training.ranks import fullest_share

COLUMNS: Final = {
    "recipe": "",
    "tiles x features": "",
    "bags a step": ",.0f",
    "tiles a step, at most": ",.0f",
    "processes": ".0f",
    "start, s": ".2f",
    "s an epoch": ".3f",
    "bags/s": ",.0f",
    "over one": ".2f",
    "limit": ".2f",
    "limit, in step": ".2f",
    "of the limit": ".2f",
    "fullest hand": ".2f",
    "over one (processor)": ".2f",
}


class Timed(NamedTuple):
    """One way of training, in one turn."""

    start: float
    """Seconds before the first epoch, of the slowest process."""
    epoch: float
    """Seconds of an epoch, of the slowest process."""
    processor: float
    """Seconds of the processor that an epoch takes the busiest process."""
    losses: list[float]
    """What the first process told."""


def main() -> None:
    """Measure, print, and write the JSON."""
    chosen = _parser().parse_args()
    cards = torch.cuda.device_count()
    device = "cuda" if cards > 1 else "cpu"
    processes = sorted(set(chosen.processes or default_processes(cards)) - {1})
    rows: list[list[Any]] = []
    facts: dict[str, Any] = {"device": device, "gpus": cards, "turns": {}}
    with workers(max([1, *processes])) as pool:
        for load in loads_of(chosen):
            turns = take_turns(pool, load, processes, device=device, turns=chosen.turns)
            found = list(rows_of(load, processes, turns))
            print("\n".join(said(row) for row in found), flush=True)
            rows += found
            facts["turns"]["/".join(map(str, load))] = [
                {name: timed._asdict() for name, timed in turn.items()} for turn in turns
            ]
    facts["largest_difference_of_a_loss"] = max(differences(facts["turns"]), default=0.0)
    print(f"largest difference of a loss from one process's: {facts['largest_difference_of_a_loss']:.1e}")
    if chosen.json:
        settings = {key: value for key, value in vars(chosen).items() if key != "json"}
        table = measured_table(COLUMNS, rows)
        publish_json(
            chosen.json,
            bench_record(
                "train_processes", settings, tables={"epochs": table}, torch=torch.__version__, **facts
            ),
        )


def default_processes(cards: int) -> list[int]:
    """Return how many processes are compared: 1, 2, and 4 where there are so many cores, or cards."""
    room = cards if cards > 1 else usable_cpus()
    return [1, 2, 4] if room >= 4 else [1, 2]


def loads_of(chosen: argparse.Namespace) -> list[Load]:
    """Return what is trained: small bags and large ones, as many a step as by default, and more."""
    epochs = chosen.epochs + 1
    few, many = TrainSettings().bags_per_step, 8 * TrainSettings().bags_per_step
    budget = TrainSettings().token_budget
    if chosen.quick:
        return [Load(recipe, 16, 20, 32, few, budget, epochs) for recipe in ("abmil", "weno")]
    small, large = (12 * chosen.bags, 200, 512), (chosen.bags, 4000, 1024)
    return [
        Load("abmil", *small, few, budget, epochs),
        Load("weno", *small, few, budget, epochs),
        Load("weno", *small, many, budget, epochs),
        Load("weno", *large, few, budget, epochs),
        Load("weno", *large, 2 * few, 3 * budget, epochs),
    ]


def take_turns(
    pool: Workers, load: Load, processes: Sequence[int], *, device: str, turns: int
) -> list[dict[str, Timed]]:
    """Train in every way, `turns` times, every other turn in the opposite order; return what each took."""
    ways = [Training(load, 1, "together", device)]
    ways += [Training(load, count, way, device) for count in processes for way in get_args(Way)]
    found = []
    for turn in range(turns):
        ordered = ways if turn % 2 == 0 else ways[::-1]
        found.append({name_of(way.processes, way.way): measure(pool, way) for way in ordered})
    return found


def name_of(processes: int, way: Way) -> str:
    """Name a way of training: `one`, `2 together`, `2 in step`, `2 apart`."""
    return "one" if processes == 1 else f"{processes} {way}"


def measure(pool: Workers, training: Training) -> Timed:
    """Train once."""
    with tempfile.TemporaryDirectory() as name:
        tasks = [Task(training, rank, Path(name)) for rank in range(training.processes)]
        return timed(pool.run(tasks))


def timed(told: Sequence[Told]) -> Timed:
    """Sum up what the processes of one training tell."""
    epochs = len(told[0].clock) - 2
    begun = min(one.clock[0] for one in told)
    epoch = max(one.clock[-1] - one.clock[1] for one in told) / epochs
    return Timed(
        start=max(one.clock[1] for one in told) - begun - epoch,
        epoch=epoch,
        processor=max(one.processor[-1] - one.processor[1] for one in told) / epochs,
        losses=told[0].losses,
    )


def rows_of(
    load: Load, processes: Sequence[int], turns: Sequence[Mapping[str, Timed]]
) -> Iterator[list[Any]]:
    """Return the table's rows of one load: medians over the turns, of ratios within a turn."""
    about = [load.recipe, f"{load.tiles:,} x {load.features:,}", load.bags_per_step, load.token_budget]
    for count in (1, *processes):
        name, in_step, limit = (name_of(count, way) for way in get_args(Way))
        epoch = median(turn[name].epoch for turn in turns)
        row = [*about, count, median(turn[name].start for turn in turns), epoch, load.bags / epoch]
        if count == 1:
            yield [*row, 1.0, None, None, None, None, 1.0]
            continue
        yield [
            *row,
            median(turn["one"].epoch / turn[name].epoch for turn in turns),
            median(turn["one"].epoch / turn[limit].epoch for turn in turns),
            median(turn["one"].epoch / turn[in_step].epoch for turn in turns),
            median(turn[limit].epoch / turn[name].epoch for turn in turns),
            fullest_hand(load, count),
            median(turn["one"].processor / turn[name].processor for turn in turns),
        ]


def fullest_hand(load: Load, processes: int) -> float:
    """Return how many fair shares of a step the process has that the others wait for; 1 at best."""
    sizes = drawn_sizes(load.bags, load.tiles).tolist()
    batches = plan_batches(
        sizes, range(load.bags), token_budget=load.token_budget, bags_per_step=load.bags_per_step
    )
    return fullest_share([[sizes[bag] for bag in batch] for batch in batches], processes)


def differences(turns: Mapping[str, Sequence[Mapping[str, Mapping[str, Any]]]]) -> Iterator[float]:
    """Yield how far the losses of every joint training were from one process's."""
    for of_load in turns.values():
        for turn in of_load:
            for name, one in turn.items():
                if name.endswith("together"):
                    pairs = zip(one["losses"], turn["one"]["losses"], strict=True)
                    yield max(abs(loss - alone) for loss, alone in pairs)


def said(row: Sequence[Any]) -> str:
    """Write a row for the terminal."""
    cells = (
        "-" if cell is None else format(cell, how) for cell, how in zip(row, COLUMNS.values(), strict=True)
    )
    return " | ".join(f"{name} {cell}" for name, cell in zip(COLUMNS, cells, strict=True))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, nargs="+", help="default: 1 2, and 4 where there is room")
    for name, default in (("bags", 16), ("epochs", 2), ("turns", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--quick", action="store_true", help="tiny bags: whether it runs, not how fast")
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    main()

"""Processes that train at the same time, together on one model or each by itself, and tell when epochs ended.

    training = Training(load, processes=2, way="together", device="cpu")
    with workers(2) as pool:
        told = pool.run([Task(training, 0, folder), Task(training, 1, folder)])

benchmarks/train_processes.py compares what they tell.
"""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Int64

from bag_parts import make_bags
from wsi_kd.bags.datasets import BagSet
from wsi_kd.settings.models import TrainSettings
from wsi_kd.steps.train_plan import plan_architecture, plan_distillation, plan_optimization
from wsi_kd.training.joining import Place, joined
from wsi_kd.training.ranks import deal
from wsi_kd.training.recipes.abmil import train_abmil
from wsi_kd.training.recipes.weno import train_weno
from wsi_kd.training.state import HistoryRow

Way: TypeAlias = Literal["together", "in step", "apart"]
"""All on one model, each with its bags of every step; or each on a model of its own, with its hand of the
bags: in as many steps as together, of fewer bags each, or in fewer steps of as many bags as one process."""
CLASSES: Final = 2
SIZE_RANGE: Final = (0.5, 1.5)
"""Of a drawn bag, in mean sizes."""
SHIFTED: Final = 10
"""Every so manieth tile of a positive bag is shifted."""
READY: Final = "ready"
LONGEST_S: Final = 600.0


class Load(NamedTuple):
    """What is trained, on what."""

    recipe: str
    """abmil: the teacher alone; weno: teacher and student."""
    bags: int
    """Of the training part; the validation part has half of that."""
    tiles: int
    """Of a bag, on average."""
    features: int
    bags_per_step: int
    token_budget: int
    """Tiles a step at most."""
    epochs: int


class Training(NamedTuple):
    """What several processes do."""

    load: Load
    processes: int
    way: Way
    device: str


class Task(NamedTuple):
    """What one of them does."""

    training: Training
    rank: int
    folder: Path
    """Where training keeps its state, in a folder of its own where processes train apart."""


class Told(NamedTuple):
    """What a process saw, in seconds: at the start and at the end of every epoch."""

    clock: list[float]
    """Of the machine, the same for all processes."""
    processor: list[float]
    """Of this process."""
    losses: list[float]
    """The teacher's on the training part, an epoch."""


class Workers:
    """Processes that wait for tasks."""

    def __init__(self, pipes: Sequence[Connection]) -> None:
        self._pipes = pipes

    def run(self, tasks: Sequence[Task]) -> list[Told]:
        """Have one process work on each task, all from the same moment on; return what they tell.

        Raises:
            RuntimeError: what one of them failed with.
        """
        asked = self._pipes[: len(tasks)]
        for pipe, task in zip(asked, tasks, strict=True):
            pipe.send(task)
        for pipe in asked:
            _heard(pipe)  # its bags are drawn
        for pipe in asked:
            pipe.send(READY)
        return [_heard(pipe) for pipe in asked]


@contextmanager
def workers(count: int) -> Iterator[Workers]:
    """Yield so many processes of one thread each; they end with the block."""
    context = multiprocessing.get_context("spawn")
    ends = [context.Pipe() for _ in range(count)]
    running = [context.Process(target=_work, args=(theirs,), daemon=True) for _, theirs in ends]
    try:
        for process in running:
            process.start()
        yield Workers([ours for ours, _ in ends])
    finally:
        for process in running:
            process.terminate()
            process.join()


def train(task: Task, *, go: Connection | None = None) -> Told:
    """Train as a task says, once the bags are drawn and `go` says so."""
    training, told = task.training, Told([], [], [])
    settings = settings_of(training)
    recipe = train_abmil
    if training.load.recipe == "weno":
        recipe = partial(train_weno, distillation=plan_distillation(settings), mining=None)
    train_part, val_part = parts_of(training, task.rank)
    work_dir = task.folder if training.way == "together" else task.folder / str(task.rank)
    work_dir.mkdir(exist_ok=True)
    if go is not None:
        go.send(READY)
        go.recv()
    note_time(told)

    def on_epoch(row: HistoryRow) -> None:
        note_time(told)
        told.losses.append(float(row["train_teacher_loss"] or 0.0))

    with joined(meeting_of(task), device=training.device):
        recipe(
            train_part,
            val_part,
            classes=CLASSES,
            architecture=plan_architecture(settings),
            optimization=plan_optimization(settings, seed=0),
            work_dir=work_dir,
            on_epoch=on_epoch,
        )
    return told


def note_time(told: Told) -> None:
    """Add the present moment to what is told."""
    told.clock.append(time.perf_counter())
    told.processor.append(time.process_time())


def meeting_of(task: Task) -> Place | None:
    """Return a process's place among those that train together; None where it trains by itself."""
    training = task.training
    if training.way != "together" or training.processes == 1:
        return None
    return Place(task.rank, training.processes, f"file://{task.folder}/meeting")


def settings_of(training: Training) -> TrainSettings:
    """Return the default settings, but for the size of a step."""
    load = training.load
    shares = training.processes if training.way == "in step" else 1
    return TrainSettings(
        bags_per_step=max(1, load.bags_per_step // shares),
        token_budget=max(1, load.token_budget // shares),
        epochs=load.epochs,
        device=training.device,
    )


def parts_of(training: Training, rank: int) -> tuple[BagSet, BagSet]:
    """Return the training and the validation part: of those that train apart, a hand of each."""
    load = training.load
    parts = [drawn_bags(count, load.tiles, load.features) for count in (load.bags, load.bags // 2)]
    if training.way != "together":
        parts = [part.select(hand_of(part, rank, training.processes)) for part in parts]
    return parts[0], parts[1]


def hand_of(bags: BagSet, rank: int, processes: int) -> list[str]:
    """Return the slide ids of a process's bags: those of each class are dealt by size, as a step's are."""
    sizes = np.diff(bags.offsets)
    chosen: list[int] = []
    for label in range(CLASSES):
        of_class = np.flatnonzero(bags.labels == label)
        chosen += of_class[deal(sizes[of_class].tolist(), processes)[rank]].tolist()
    return [bags.slide_ids[bag] for bag in sorted(chosen)]


@lru_cache(maxsize=2)
def drawn_bags(count: int, tiles: int, features: int) -> BagSet:
    """Draw bags of standard normal float16 features, every other one positive; the same in all processes."""
    rng = np.random.default_rng(count)
    sizes = drawn_sizes(count, tiles)
    values = rng.standard_normal((int(sizes.sum()), features), dtype=np.float32).astype(np.float16)
    labels = np.arange(count, dtype=np.int64) % CLASSES
    shifted = np.repeat(labels == 1, sizes) & (np.arange(len(values)) % SHIFTED == 0)
    values[shifted, 0] += 2.0
    return make_bags(values, sizes=sizes.tolist(), labels=labels, tile_labels=np.zeros(len(values), np.int8))


def drawn_sizes(count: int, tiles: int) -> Int64[np.ndarray, "count"]:
    """Draw the sizes of bags, evenly between half the mean and one and a half of it."""
    low, high = (round(tiles * edge) for edge in SIZE_RANGE)
    return np.random.default_rng(count).integers(low, high, size=count, endpoint=True)


def _work(pipe: Connection) -> None:
    torch.set_num_threads(1)
    answer_tasks(pipe)


def answer_tasks(pipe: Connection) -> None:
    """Do one task after the other until the one that asks is gone."""
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(train(task, go=pipe))
        except Exception as error:  # whatever it is, the one that asked waits for an answer
            pipe.send(error)


def _heard(pipe: Connection) -> Told:
    if not pipe.poll(LONGEST_S):
        raise RuntimeError(f"a process of the benchmark said nothing for {LONGEST_S:.0f} s")
    said = pipe.recv()
    if isinstance(said, Exception):
        raise RuntimeError(f"a process of the benchmark failed: {said}")
    return said

"""Evaluates candidates in this process or in several; the scores do not depend on how many there are."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.reduction import ForkingPickler
from typing import NamedTuple, TypeAlias

import torch

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.kd.search.genome import Genome

Fitness: TypeAlias = Callable[[Genome], float]
"""How good a genome is: a function that can be pickled, and gives the same for the same genome."""


class Score(NamedTuple):
    """What one call of a fitness came to."""

    fitness: float | None
    failure: str


Evaluate: TypeAlias = Callable[[Sequence[Genome]], Iterator[tuple[int, Score]]]
"""From genomes to (place among them, score), in the order in which they are done."""


@contextmanager
def evaluator(fitness: Fitness, *, workers: int) -> Iterator[Evaluate]:
    """Give a function that evaluates genomes: here for one worker, else in processes that end with the block.

    Each evaluation computes with one thread, as sums depend on how many there are.

    Raises:
        BadInput: fewer than one worker, or several and a fitness that cannot be sent to a process.
        RunFailed: inside, a process that died.
    """
    if workers < 1:
        raise BadInput(f"search: workers is {workers}; expected at least 1")
    if workers == 1:
        yield lambda genomes: ((place, score(fitness, genome)) for place, genome in enumerate(genomes))
        return
    try:
        ForkingPickler.dumps(fitness)
    except Exception as error:
        raise BadInput(
            f"search: the fitness cannot be sent to a process ({error}); make it of functions and classes of "
            "modules, or take one worker"
        ) from None
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield lambda genomes: _in_processes(pool, fitness, genomes)
    finally:
        pool.shutdown(cancel_futures=True)


def score(fitness: Fitness, genome: Genome) -> Score:
    """Call the fitness; a training that fails (`RunFailed`: it diverged) is a score too, and the worst.

    Raises:
        BadInput: the fitness is not a finite number, and did not say so; whatever else it raises.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = float(fitness(genome))
    except RunFailed as error:
        return Score(None, str(error))
    finally:
        torch.set_num_threads(threads)
    if not abs(found) < float("inf"):
        raise BadInput(f"search: the fitness of {genome.told} is {found}; expected a finite number")
    return Score(found, "")


def _in_processes(
    pool: ProcessPoolExecutor, fitness: Fitness, genomes: Sequence[Genome]
) -> Iterator[tuple[int, Score]]:
    try:
        waiting = {pool.submit(score, fitness, genome): place for place, genome in enumerate(genomes)}
        for done in as_completed(waiting):
            yield waiting[done], done.result()
    except BrokenProcessPool:
        raise RunFailed(
            "search: a worker process died, for want of memory or as it cannot import the fitness (it said "
            "so above); what was evaluated is kept where a state file is named: run again with fewer workers"
        ) from None

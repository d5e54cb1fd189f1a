"""The search: a population of distillation losses, evolved by their fitness.

    random valid population -> evaluate -> elite stays, children of the elite fill up -> evaluate -> ...

Every `shrink_every` generations the space loses what the better half of the population does without. KD-Zero
(Li, Dong, Li, Wei, Yang, NeurIPS 2023); its code is not public. Given the fitness, the result depends on the
plan alone: not on the number of workers, nor on whether the search was killed in between.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple, TypeAlias

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.kd.search.genome import Genome
from wsi_kd.kd.search.journal import Journal, Rated
from wsi_kd.kd.search.rejection import Verdict
from wsi_kd.kd.search.space import SearchSpace, cross, draw_genome, mutate, shrink
from wsi_kd.kd.search.workers import Evaluate, Fitness, evaluator

TRIES: Final = 100
"""Candidates drawn for one place of a population before it is left empty (the first: given up)."""
ScreenOf: TypeAlias = Callable[[Genome], Verdict]
OnGeneration: TypeAlias = Callable[["Generation"], None]


class SearchPlan(NamedTuple):
    """How long and how a search evolves."""

    population: int = 20
    generations: int = 10
    """After the first population."""
    elite: int = 5
    """How many stay, and are the parents."""
    crossover: float = 0.5
    """Probability that a child has two parents."""
    mutation: float = 0.8
    """Probability that it is changed; a child of one parent always is."""
    shrink_every: int = 3
    """Generations between two narrowings of the space; 0: none."""
    seed: int = 0

    def check(self) -> None:
        """Check the numbers.

        Raises:
            BadInput: naming what is wrong and what was expected.
        """
        if not 1 <= self.elite < self.population or self.generations < 0 or self.shrink_every < 0:
            raise BadInput(
                f"search: population {self.population}, elite {self.elite}, generations {self.generations}, "
                f"shrink_every {self.shrink_every}; expected an elite of at least 1 within a larger "
                "population, the others at least 0"
            )
        for name in ("crossover", "mutation"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise BadInput(f"search: {name} is {getattr(self, name)}; expected a probability")


class Individual(NamedTuple):
    """A genome of a population."""

    genome: Genome
    signature: str
    fitness: float | None
    """None: its training failed."""


class Generation(NamedTuple):
    """What a generation came to."""

    number: int
    """0: the first, random population."""
    best: float
    mean: float
    """Of those whose training did not fail."""
    evaluations: int
    """So far, all generations."""
    transforms: int
    """How many the space holds."""
    distances: int


class SearchResult(NamedTuple):
    """What a search found."""

    best: Individual
    history: list[Generation]
    rated: list[Rated]
    """All evaluations, in their order."""
    rejected: dict[str, int]
    """Genomes by the reason of their rejection."""
    space: SearchSpace
    """What is left of it."""


def search(
    space: SearchSpace,
    fitness: Fitness,
    *,
    screen: ScreenOf,
    plan: SearchPlan,
    workers: int = 1,
    state_path: Path | None = None,
    about: Mapping[str, Any] | None = None,
    on_generation: OnGeneration | None = None,
) -> SearchResult:
    """Evolve distillation losses; return the fittest and how it came about.

    Args:
        space: where to look.
        fitness: the higher the better; must be picklable for several workers. A `RunFailed` is the worst.
        screen: says which genomes are not worth an evaluation and which are the same: `rejection.Screen`.
        plan: population, generations, rates and seed.
        workers: processes that evaluate.
        state_path: file to go on from, if it is there, and to write after every evaluation.
        about: what else tells this search from another (data, networks), as JSON knows it.
        on_generation: told each generation as it is done.

    Raises:
        BadInput: a plan or space that cannot be, too few genomes that pass, a state file of another search.
        RunFailed: all trainings failed, a worker died, the disk is full.
    """
    plan.check()
    identity = {"space": space.to_json(), "plan": plan._asdict(), "about": dict(about or {})}
    journal = Journal(state_path, identity=identity)
    with evaluator(fitness, workers=workers) as evaluate:
        course = _Course(space, screen, plan=plan, journal=journal, evaluate=evaluate)
        for generation in course.generations():
            if on_generation is not None:
                on_generation(generation)
    rejected = Counter(verdict.reason for verdict in journal.verdicts.values() if verdict.reason)
    return SearchResult(
        best=course.population[0],
        history=course.history,
        rated=list(course.rated.values()),
        rejected=dict(sorted(rejected.items())),
        space=course.space,
    )


def draw_valid(space: SearchSpace, screen: ScreenOf, *, count: int, seed: int) -> list[Genome]:
    """Draw genomes that pass the screen and teach differently: what a search is compared with.

    Raises:
        BadInput: too few pass.
    """
    random, found = Random(seed), dict[str, Genome]()
    for _ in range(count * TRIES):
        genome = draw_genome(space, random)
        verdict = screen(genome)
        if not verdict.reason:
            found.setdefault(verdict.signature, genome)
        if len(found) == count:
            return list(found.values())
    raise BadInput(
        f"search: only {len(found)} of {count * TRIES} random genomes pass and differ, {count} are needed; "
        "widen the space, or lower the population"
    )


class _Course:
    """A search under way."""

    def __init__(
        self,
        space: SearchSpace,
        screen: ScreenOf,
        *,
        plan: SearchPlan,
        journal: Journal,
        evaluate: Evaluate,
    ) -> None:
        self.space, self.history = space, list[Generation]()
        self.population: list[Individual] = []
        """From the fittest to the least fit."""
        self.rated: dict[str, Rated] = {}
        """By signature, all that were in a population."""
        self._screen, self._plan, self._journal, self._evaluate = screen, plan, journal, evaluate
        self._random = Random(f"children of {plan.seed}")

    def generations(self) -> Iterator[Generation]:
        """Go through the search; yield each generation as it is evaluated."""
        drawn = draw_valid(self.space, self._verdict, count=self._plan.population, seed=self._plan.seed)
        self._settle([], drawn)
        yield self._noted(0)
        for number in range(1, self._plan.generations + 1):
            if self._plan.shrink_every and number % self._plan.shrink_every == 0:
                better = self.population[: (len(self.population) + 1) // 2]
                self.space = shrink(self.space, [one.genome for one in better])
            elite = self.population[: self._plan.elite]
            self._settle(elite, self._children(elite))
            yield self._noted(number)

    def _settle(self, kept: Sequence[Individual], new: Sequence[Genome]) -> None:
        """Make the next population: those kept, and new ones evaluated unless one like them was."""
        signatures = [self._verdict(genome).signature for genome in new]
        known = self._journal.rated
        asked = [place for place, signature in enumerate(signatures) if signature not in known]
        for number, score in self._evaluate([new[place] for place in asked]):
            place = asked[number]
            self._journal.note(signatures[place], Rated(new[place], score.fitness, score.failure))
        # processes end in any order, and a resumed search knows more than it has seen: here all is in turn
        self.rated |= {signature: known[signature] for signature in signatures}
        born = [
            Individual(genome, signature, known[signature].fitness)
            for genome, signature in zip(new, signatures, strict=True)
        ]
        self.population = sorted([*kept, *born], key=_rank)

    def _children(self, elite: Sequence[Individual]) -> list[Genome]:
        taken = {one.signature for one in elite}
        children = []
        for _ in range(self._plan.population - len(elite)):
            for _ in range(TRIES):
                child = self._child(elite)
                verdict = self._verdict(child)
                if not verdict.reason and verdict.signature not in taken:
                    taken.add(verdict.signature)
                    children.append(child)
                    break
        return children

    def _child(self, elite: Sequence[Individual]) -> Genome:
        parents = self._random.choices(elite, k=2)
        crossed = self._random.random() < self._plan.crossover
        child = parents[0].genome
        if crossed:
            child = cross(child, parents[1].genome, self._random)
        if not crossed or self._random.random() < self._plan.mutation:
            child = mutate(child, self.space, self._random)
        return self.space.canonical(child)

    def _verdict(self, genome: Genome) -> Verdict:
        known = self._journal.verdicts
        if genome.key not in known:
            known[genome.key] = self._screen(genome)
        return known[genome.key]

    def _noted(self, number: int) -> Generation:
        fitnesses = [one.fitness for one in self.population if one.fitness is not None]
        if not fitnesses:
            first = next(iter(self.rated.values()))
            raise RunFailed(f"search: the trainings of all genomes failed, the first with: {first.failure}")
        self.history.append(
            Generation(
                number,
                best=max(fitnesses),
                mean=sum(fitnesses) / len(fitnesses),
                evaluations=len(self.rated),
                transforms=len(self.space.transforms),
                distances=len(self.space.distances),
            )
        )
        return self.history[-1]


def _rank(one: Individual) -> tuple[bool, float]:
    return one.fitness is None, -(one.fitness or 0.0)

"""The search: what it finds, that it depends on its plan alone, killed or not, and what it refuses."""

import json
import math
from random import Random

import pytest
import torch
from search_fitness import dies, hill, hill_slow_at_first

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.kd.search.evolution import SearchPlan, draw_valid, search
from wsi_kd.kd.search.genome import Genome
from wsi_kd.kd.search.rejection import Verdict
from wsi_kd.kd.search.space import SearchSpace, cross, draw_genome, mutate, shrink
from wsi_kd.kd.search.workers import score

SPACE = SearchSpace(layers=(None, ("a", "b")))
PLAN = SearchPlan(population=8, generations=5, elite=3, shrink_every=2, seed=1)


def screen(genome):
    """Reject one distance; weights play no role, as if they were made up for by the loss."""
    if genome.distance == "cosine":
        return Verdict("not this one", "")
    return Verdict("", genome._replace(weight=1.0).key)


class Counting:
    """The fitness, with a list of what it was asked; killed at one call."""

    def __init__(self, killed_at=None):
        self.asked, self.killed_at = [], killed_at

    def __call__(self, genome):
        if len(self.asked) == self.killed_at:
            raise KeyboardInterrupt
        self.asked.append(genome)
        return hill(genome)


def test_the_best_never_falls_and_the_population_rises():
    found = search(SPACE, hill, screen=screen, plan=PLAN)
    bests = [generation.best for generation in found.history]

    assert bests == sorted(bests)
    assert len(found.history) == 6
    assert found.history[-1].mean > found.history[0].mean + 0.5
    assert found.best.fitness == bests[-1] == hill(found.best.genome)
    assert "norm_n" in found.best.genome.transforms
    assert found.best.fitness == max(rated.fitness for rated in found.rated)


def test_nothing_rejected_is_evaluated_and_nothing_equal_twice():
    counted = Counting()
    found = search(SPACE, counted, screen=screen, plan=PLAN)

    signatures = [screen(genome).signature for genome in counted.asked]
    assert "" not in signatures
    assert len(set(signatures)) == len(signatures) == found.history[-1].evaluations
    assert [rated.genome for rated in found.rated] == counted.asked
    assert found.history[-1].evaluations < 8 + 5 * 5 + 1
    assert found.rejected.keys() == {"not this one"}


def test_the_plan_s_seed_tells_searches_apart():
    found = [search(SPACE, hill, screen=screen, plan=PLAN._replace(seed=seed)) for seed in (1, 1, 2)]

    assert found[0] == found[1]
    assert found[0].rated != found[2].rated


@pytest.mark.parametrize("killed_at", [1, 8, 11, 20])
def test_a_killed_search_goes_on_to_the_same_end(tmp_path, killed_at):
    path = tmp_path / "deep" / "search.json"
    whole = search(SPACE, hill, screen=screen, plan=PLAN)
    first, second = Counting(killed_at), Counting()

    with pytest.raises(KeyboardInterrupt):
        search(SPACE, first, screen=screen, plan=PLAN, state_path=path)
    assert len(json.loads(path.read_text())["rated"]) == killed_at
    resumed = search(SPACE, second, screen=screen, plan=PLAN, state_path=path)

    assert resumed == whole
    assert first.asked + second.asked == [rated.genome for rated in whole.rated]
    third = Counting(0)
    assert search(SPACE, third, screen=screen, plan=PLAN, state_path=path) == whole


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"plan": PLAN._replace(population=9)}, "it is of another search, whose plan is"),
        (
            {"about": {"data": "others"}},
            "whose about is {'data': 'these'} and not {'data': 'others'}; delete it",
        ),
    ],
)
def test_the_state_of_another_search_is_refused(tmp_path, changed, said):
    path = tmp_path / "search.json"
    same = {"screen": screen, "plan": PLAN, "about": {"data": "these"}, "state_path": path}
    search(SPACE, hill, **same)

    with pytest.raises(BadInput, match=said):
        search(SPACE, hill, **{**same, **changed})
    path.write_text(path.read_text().replace("norm_n", "norm_c"))
    with pytest.raises(BadInput, match="changed or damaged since it was written"):
        search(SPACE, hill, **same)


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(tmp_path):
    plan = PLAN._replace(population=6, generations=2)
    alone = search(SPACE, hill, screen=screen, plan=plan)
    path = tmp_path / "search.json"

    found = search(SPACE, hill_slow_at_first, screen=screen, plan=plan, workers=2, state_path=path)

    assert found == alone
    assert len(json.loads(path.read_text())["rated"]) == len(alone.rated)


@pytest.mark.slow
def test_a_fitness_that_fails_in_a_process_is_told():
    with pytest.raises((RunFailed, SystemExit)):
        search(SPACE, dies, screen=screen, plan=PLAN, workers=2)


def test_a_fitness_that_cannot_be_sent_is_refused():
    with pytest.raises(BadInput, match=r"the fitness cannot be sent to a process .* take one worker"):
        search(SPACE, lambda _: 0.0, screen=screen, plan=PLAN, workers=2)
    with pytest.raises(BadInput, match="workers is 0"):
        search(SPACE, hill, screen=screen, plan=PLAN, workers=0)


def test_one_thread_computes_a_fitness():
    threads, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)  # also where the tests run with one
    try:
        score(lambda _: seen.append(torch.get_num_threads()) or 0.0, Genome())
        after = torch.get_num_threads()
    finally:
        torch.set_num_threads(threads)

    assert seen == [1]
    assert after == 2


def test_trainings_that_fail_are_the_worst():
    def diverges(genome):
        if genome.distance != "kl":
            raise RunFailed("the student gave logits that are not finite")
        return hill(genome) - 100.0

    found = search(SPACE, diverges, screen=screen, plan=PLAN)

    failed = [rated for rated in found.rated if rated.fitness is None]
    assert {rated.failure for rated in failed} == {"the student gave logits that are not finite"}
    assert found.best.genome.distance == "kl"
    assert found.history[0].mean < -90.0


def test_when_all_trainings_fail_the_search_does():
    def diverges(genome):
        raise RunFailed("it diverged")

    with pytest.raises(RunFailed, match="trainings of all genomes failed, the first with: it diverged"):
        search(SPACE, diverges, screen=screen, plan=PLAN)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_fitness_that_is_no_number_is_refused(value):
    with pytest.raises(BadInput, match=r"the fitness of .* is (nan|inf); expected a finite number"):
        search(SPACE, lambda _: value, screen=screen, plan=PLAN)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (PLAN._replace(elite=8), "population 8, elite 8, .* within a larger population"),
        (PLAN._replace(elite=0), "elite 0"),
        (PLAN._replace(generations=-1), "generations -1"),
        (PLAN._replace(mutation=1.5), "mutation is 1.5; expected a probability"),
    ],
)
def test_plans_that_cannot_be_are_refused(plan, said):
    with pytest.raises(BadInput, match=said):
        search(SPACE, hill, screen=screen, plan=plan)


def test_a_space_without_enough_losses_is_refused():
    narrow = SearchSpace(transforms=(), distances=("l1",))
    with pytest.raises(BadInput, match="only 1 of 300 random genomes pass and differ, 3 are needed"):
        draw_valid(narrow, screen, count=3, seed=0)
    with pytest.raises(BadInput, match="search: only 0 of"):
        draw_valid(SPACE, lambda _: Verdict("bad", ""), count=2, seed=0)


def test_a_small_space_fills_what_it_can():
    """Six losses in all: populations after the first three may be short of children."""
    small = SearchSpace(transforms=(), distances=("kl", "l1", "l2"), temperatures=(1.0, 2.0, 4.0, 8.0))
    found = search(small, hill, screen=screen, plan=SearchPlan(3, 8, 1, shrink_every=0))

    assert 3 < found.history[-1].evaluations <= 6
    assert len({rated.genome._replace(weight=1.0) for rated in found.rated}) == len(found.rated)
    assert found.best.fitness == max(rated.fitness for rated in found.rated)


def test_the_space_shrinks_to_what_the_better_half_has():
    found = search(SPACE, hill, screen=screen, plan=PLAN)
    sizes = [(generation.transforms, generation.distances) for generation in found.history]

    assert sizes[0] == sizes[1] == (15, 6)
    assert sizes[2][0] < 15
    assert sizes[4][0] <= sizes[3][0] == sizes[2][0]
    assert "norm_n" in found.space.transforms
    narrow = shrink(SPACE, [Genome(("a", "b"), ("pow2", "abs"), "l2"), Genome(None, (), "kl")])
    assert narrow == SPACE._replace(transforms=("abs", "pow2"), distances=("kl", "l2"))
    assert shrink(SPACE, [Genome()]).layers == (None,)


def test_drawn_and_changed_genomes_are_of_the_space():
    random, space = Random(0), SPACE._replace(weights=(0.1, 1.0, 10.0))
    drawn = [space.canonical(draw_genome(space, random)) for _ in range(300)]
    changed = [mutate(genome, space, random) for genome in drawn for _ in range(5)]

    for genome in [*drawn, *changed]:
        assert Genome.of_json(genome.to_json()) == genome
        assert genome.weight in space.weights
        assert genome.temperature in (1.0, 2.0, 4.0, 8.0)
    assert {len(genome.transforms) for genome in changed} == {0, 1, 2}
    assert {genome.layers for genome in drawn} == {None, ("a", "b")}
    assert all(
        genome.temperature == 1.0
        for genome in drawn
        if not genome.told.count("softmax") and genome.distance != "kl"
    )


def test_a_change_is_of_one_part_and_of_one_step():
    random, genome = Random(0), Genome(("a", "b"), ("abs", "pow2"), "kl", 1.0, 2.0)
    for _ in range(300):
        other = mutate(genome, SPACE, random)
        differ = [name for name in Genome._fields if getattr(genome, name) != getattr(other, name)]
        assert len(differ) <= 1
        assert other.weight in (0.3, 1.0, 3.0)
        assert other.temperature in (1.0, 2.0, 4.0)


def test_a_child_has_each_part_from_one_parent():
    random = Random(0)
    first = Genome(None, ("abs",), "kl", 1.0, 2.0)
    second = Genome(("a", "b"), ("pow2", "norm_n"), "l1", 10.0, 4.0)
    children = {cross(first, second, random) for _ in range(300)}

    assert len(children) == 32
    for child in children:
        assert all(part in pair for part, pair in zip(child, zip(first, second, strict=True), strict=True))

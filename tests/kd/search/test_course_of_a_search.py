"""The course of a search: who decides what the space loses, and that the order of endings plays no role."""

from contextlib import contextmanager

from search_fitness import hill

from wsi_kd.kd.search import evolution
from wsi_kd.kd.search.evolution import SearchPlan, search
from wsi_kd.kd.search.rejection import Verdict
from wsi_kd.kd.search.space import SearchSpace, shrink
from wsi_kd.kd.search.workers import score

SPACE = SearchSpace(layers=(None, ("a", "b")))


def screen(genome):
    return Verdict("", genome.key)


def test_the_space_loses_what_the_better_half_of_the_population_does_without():
    plan = SearchPlan(population=8, generations=1, elite=3, shrink_every=1, seed=1)
    found = search(SPACE, hill, screen=screen, plan=plan)

    first = sorted(found.rated[:8], key=lambda rated: -rated.fitness)
    assert found.space == shrink(SPACE, [rated.genome for rated in first[:4]])
    assert found.space != shrink(SPACE, [rated.genome for rated in first])
    assert found.space != shrink(SPACE, [rated.genome for rated in first[4:]])


def test_in_which_order_evaluations_end_changes_nothing(monkeypatch):
    @contextmanager
    def backwards(fitness, *, workers):
        del workers
        yield lambda genomes: (
            (place, score(fitness, genomes[place])) for place in reversed(range(len(genomes)))
        )

    plan = SearchPlan(population=8, generations=3, elite=3, shrink_every=2, seed=1)
    forwards = search(SPACE, hill, screen=screen, plan=plan)
    monkeypatch.setattr(evolution, "evaluator", backwards)

    assert search(SPACE, hill, screen=screen, plan=plan) == forwards


def test_children_of_two_parents_are_changed_as_often_as_the_plan_says():
    """Never: they hold what the first population held. Always: new transforms come in."""
    plan = SearchPlan(population=8, generations=4, elite=3, crossover=1.0, shrink_every=0, seed=1)
    for mutation in (0.0, 1.0):
        found = search(SPACE, hill, screen=screen, plan=plan._replace(mutation=mutation))
        transforms = [rated.genome.transforms for rated in found.rated]
        inherited = set(transforms[8:]) <= set(transforms[:8])

        assert len(found.rated) > 8
        assert inherited == (mutation == 0.0)

"""Method search: evolve the loss for this teacher, student and data by short trainings, then train with it.

The searched loss stands beside the criteria of the task (cross entropy, as a rule). It is told by its genome,
which the criterion `searched` takes again. Everything is chosen on the validation part.
"""

import copy
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

import torch

from wsi_kd.core.errors import BadInput, unknown_name
from wsi_kd.core.files import publish_json
from wsi_kd.core.tensors import tensors_hash
from wsi_kd.distillation.methods.plain import distill_plain
from wsi_kd.distillation.proxy import OBJECTIVES, SEARCHED, Proxy, with_genome
from wsi_kd.distillation.task import Outcome, Task
from wsi_kd.kd.fit_state import portable, tensors_of
from wsi_kd.kd.search.evolution import SearchPlan, SearchResult, search
from wsi_kd.kd.search.genome import LayerNames
from wsi_kd.kd.search.operations import OPERATIONS, Operations
from wsi_kd.kd.search.probes import collect_probes
from wsi_kd.kd.search.rejection import Screen
from wsi_kd.kd.search.space import SearchSpace
from wsi_kd.kd.seeding import seeded

PROBES: Final = 3
"""Training batches on which candidates are screened."""


def distill_search(
    task: Task,
    *,
    layers: Sequence[LayerNames] = (),
    logits: bool = True,
    transforms: Sequence[str] | None = None,
    distances: Sequence[str] | None = None,
    weights: Sequence[float] | None = None,
    temperatures: Sequence[float] | None = None,
    objective: str = "accuracy",
    proxy_epochs: int = 5,
    proxy_batches: int | None = None,
    proxy_seeds: int = 1,
    unlabeled: bool = True,
    workers: int = 1,
    **evolution: Any,
) -> Outcome:
    """Search a loss, then train the student with it beside the task's criteria.

    With `task.state_path` a search goes on from `<its stem>.search.json` beside it, and the winner is written
    to `genome.json` there.

    Args:
        task: with one teacher. All short trainings start from the student's weights as they are.
        layers: pairs (student's, teacher's) whose features may be compared.
        logits: whether the logits may be.
        transforms: what genomes may hold; None: all, as `SearchSpace` has them. The next three as well.
        distances: see above.
        weights: see above.
        temperatures: see above.
        objective: what short trainings are rated by: "accuracy" on the validation part, or "gaps": minus the
            representation gap and the sharpness gap of student and teacher there, which needs no labels.
        proxy_epochs: of a short training.
        proxy_batches: of each of its epochs; None: all.
        proxy_seeds: short trainings a genome.
        unlabeled: whether the batches without labels are walked too, in turn with the labeled ones.
        workers: processes that train.
        evolution: fields of `SearchPlan` but the seed.

    Raises:
        BadInput: not one teacher, nothing to compare, names that are not known, a criterion named "searched".
        RunFailed: as `search` and `Distiller.fit`.
    """
    _check(task, objective=objective)
    _check_counts(proxy_epochs=proxy_epochs, proxy_batches=proxy_batches, proxy_seeds=proxy_seeds)
    sources = (*((None,) if logits else ()), *((ours, theirs) for ours, theirs in layers))
    given = SearchSpace(sources)
    space = given._replace(
        transforms=given.transforms if transforms is None else tuple(transforms),
        distances=given.distances if distances is None else tuple(distances),
        weights=given.weights if weights is None else tuple(weights),
        temperatures=given.temperatures if temperatures is None else tuple(temperatures),
    )
    space.check(OPERATIONS)
    seeds = tuple(range(task.plan.seed, task.plan.seed + proxy_seeds))
    proxy = Proxy(_for_proxies(task), seeds, proxy_epochs, proxy_batches, objective, unlabeled)
    found = search(
        space,
        proxy,
        screen=make_screen(task, space),
        plan=SearchPlan(**evolution, seed=task.plan.seed),
        workers=workers,
        state_path=task.state_path and task.state_path.with_suffix(".search.json"),
        about=_about(proxy),
    )
    if task.state_path is not None:
        publish_json(task.state_path.with_name("genome.json"), found.best.genome.to_json())
    outcome = distill_plain(with_genome(task, found.best.genome), unlabeled=unlabeled)
    return outcome._replace(told={**outcome.told, **tell(found)})


def make_screen(task: Task, space: SearchSpace, *, operations: Operations = OPERATIONS) -> Screen:
    """Build the screen of candidates from a few training batches.

    Raises:
        BadInput: layers that do not exist or cannot be paired, constant outputs, too small batches.
    """
    student, teacher = (copy.deepcopy(network).cpu() for network in (task.student, task.teachers[0]))
    with seeded(task.plan.seed, 0, device=torch.device("cpu")):
        batches = list(islice(iter(task.data.train), PROBES))
    probes = collect_probes(student, teacher, batches, layers=space.layers, seed=task.plan.seed)
    return Screen(probes, operations=operations)


def tell(found: SearchResult) -> dict[str, Any]:
    """Return what a search found as JSON knows it."""
    return {
        "genome": found.best.genome.to_json(),
        "formula": found.best.genome.told,
        "fitness": found.best.fitness,
        "generations": [generation._asdict() for generation in found.history],
        "evaluations": [
            {"formula": rated.genome.told, "fitness": rated.fitness, "failure": rated.failure}
            for rated in found.rated
        ],
        "rejected": found.rejected,
        "space": found.space.to_json(),
    }


def _check(task: Task, *, objective: str) -> None:
    if len(task.teachers) != 1:
        raise BadInput(f"method search: there are {len(task.teachers)} teachers; it takes one")
    if SEARCHED in task.criteria:
        raise BadInput(
            f"method search: a criterion is called '{SEARCHED}' as the one that is searched; rename it"
        )
    if objective not in OBJECTIVES:
        raise unknown_name("objective of method search", objective, OBJECTIVES)


def _check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and count < 1:
            raise BadInput(f"method search: {name} is {count}; expected at least 1")


def _for_proxies(task: Task) -> Task:
    """Return what short trainings need, in a form that can be sent to a process."""
    return task._replace(
        layers=dict(task.layers),
        weight_schedules=dict(task.weight_schedules),
        state_path=None,
        on_epoch=None,
    )


def _about(proxy: Proxy) -> Mapping[str, Any]:
    """Return what tells this fitness from another's, as far as plain values go."""
    task = proxy.task
    networks = {"student": task.student, "teacher": task.teachers[0]}
    return {
        **{name: tensors_hash(portable(tensors_of(network))) for name, network in networks.items()},
        "criteria": {name: [type(loss).__name__, weight] for name, (loss, weight) in task.criteria.items()},
        "batches": [len(task.data.train), len(task.data.val)],
        "proxy": [list(proxy.seeds), proxy.epochs, proxy.batches, proxy.objective, proxy.unlabeled],
    }

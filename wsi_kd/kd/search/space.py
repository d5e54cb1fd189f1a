"""Where a search looks: what genomes may hold, and how they are drawn, crossed, changed and narrowed down."""

from collections.abc import Sequence
from random import Random
from typing import Any, Final, NamedTuple

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.search.genome import MAX_TRANSFORMS, Genome, LayerNames
from wsi_kd.kd.search.operations import OPERATIONS, TEMPERED, Operations

WEIGHTS: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""By half orders of magnitude: distances differ by that much in size."""
TEMPERATURES: Final = (1.0, 2.0, 4.0, 8.0)


class SearchSpace(NamedTuple):
    """What a genome may hold; the order of each part is part of the search."""

    layers: tuple[LayerNames | None, ...] = (None,)
    """Pairs of layers; None: the logits."""
    transforms: tuple[str, ...] = tuple(OPERATIONS.transforms)
    distances: tuple[str, ...] = tuple(OPERATIONS.distances)
    weights: tuple[float, ...] = WEIGHTS
    """From the smallest to the largest: a mutation goes to a neighbor."""
    temperatures: tuple[float, ...] = TEMPERATURES
    tempered: frozenset[str] = TEMPERED
    """Operations that the temperature changes; genomes without any have temperature 1."""

    def canonical(self, genome: Genome) -> Genome:
        """Return the genome that stands for all that compute the same whatever their temperature."""
        uses = self.tempered & {*genome.transforms, genome.distance}
        return genome if uses else genome._replace(temperature=1.0)

    def check(self, operations: Operations) -> None:
        """Check that genomes can be drawn, and that each operation is known.

        Raises:
            BadInput: an empty part, an operation that is not known.
        """
        for name in ("layers", "distances", "weights", "temperatures"):
            if not getattr(self, name):
                raise BadInput(f"search space: it has no {name}; give at least one")
        for distance in self.distances:
            operations.check(Genome(distance=distance))
        for transform in self.transforms:
            operations.check(Genome(transforms=(transform,), distance=self.distances[0]))

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as a record of what was searched."""
        layers = [None if pair is None else list(pair) for pair in self.layers]
        rest = {
            name: sorted(part) if name == "tempered" else list(part)
            for name, part in self._asdict().items()
            if name != "layers"
        }
        return {"layers": layers, **rest}


def draw_genome(space: SearchSpace, random: Random) -> Genome:
    """Draw each part by itself; 0, 1 and 2 transforms are equally likely."""
    many = random.randint(0, MAX_TRANSFORMS) if space.transforms else 0
    drawn = Genome(
        layers=random.choice(space.layers),
        transforms=tuple(random.choice(space.transforms) for _ in range(many)),
        distance=random.choice(space.distances),
        weight=random.choice(space.weights),
        temperature=random.choice(space.temperatures),
    )
    return space.canonical(drawn)


def cross(first: Genome, second: Genome, random: Random) -> Genome:
    """Take each part from one of both, the transforms as a whole.

    >>> cross(Genome(distance="l1"), Genome(distance="l1"), Random(0)).distance
    'l1'
    """
    return Genome._make(random.choice(parts) for parts in zip(first, second, strict=True))


def mutate(genome: Genome, space: SearchSpace, random: Random) -> Genome:
    """Change one part of five, drawn evenly; weights and temperatures go to a neighbor on their grid.

    A transform is put in, taken out or exchanged. Where a part can only be what it is, nothing changes.
    """
    part = random.choice(Genome._fields)
    if part == "transforms":
        return genome._replace(transforms=_other_transforms(genome.transforms, space, random))
    if part == "weight":
        return genome._replace(weight=_neighbor(genome.weight, space.weights, random))
    if part == "temperature":
        return genome._replace(temperature=_neighbor(genome.temperature, space.temperatures, random))
    if part == "layers":
        return genome._replace(layers=random.choice(space.layers))
    return genome._replace(distance=random.choice(space.distances))


def shrink(space: SearchSpace, kept: Sequence[Genome]) -> SearchSpace:
    """Leave those layers, transforms and distances that some genome of `kept` has; weights stay.

    >>> shrink(SearchSpace(), [Genome(transforms=("abs",), distance="l2")])[1:3]
    (('abs',), ('l2',))
    """
    transforms = {name for genome in kept for name in genome.transforms}
    layers, distances = {genome.layers for genome in kept}, {genome.distance for genome in kept}
    return space._replace(
        layers=tuple(pair for pair in space.layers if pair in layers),
        transforms=tuple(name for name in space.transforms if name in transforms),
        distances=tuple(name for name in space.distances if name in distances),
    )


def _other_transforms(transforms: tuple[str, ...], space: SearchSpace, random: Random) -> tuple[str, ...]:
    if not space.transforms:
        return transforms
    new, many = random.choice(space.transforms), len(transforms)
    changes = [*(["put in"] if many < MAX_TRANSFORMS else []), *(["take out", "exchange"] if many else [])]
    change = random.choice(changes)
    place = random.randrange(many + 1 if change == "put in" else many)
    behind = transforms[place:] if change == "put in" else transforms[place + 1 :]
    return (*transforms[:place], *(() if change == "take out" else (new,)), *behind)


def _neighbor(value: float, grid: tuple[float, ...], random: Random) -> float:
    ordered = sorted(grid)
    near = min(range(len(ordered)), key=lambda index: abs(ordered[index] - value))
    step = random.choice((-1, 1))
    return ordered[min(max(near + step, 0), len(ordered) - 1)]

"""What a search evolves: a distillation loss as a few names and numbers, and its strict JSON form."""

import json
import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from wsi_kd.core.errors import BadInput

SCHEMA: Final = 1
MAX_TRANSFORMS: Final = 2
LOGITS: Final = "logits"
PAIR: Final = 2
LayerNames: TypeAlias = tuple[str, str]


class Genome(NamedTuple):
    """One distillation loss: transforms of both sides, then a distance; `searched.SearchedLoss` computes it.

    >>> genome = Genome(transforms=("norm_n",), distance="l1", weight=10.0)
    >>> genome.told
    '10 x l1(norm_n(logits))'
    >>> Genome.of_json(genome.to_json()) == genome
    True
    """

    layers: LayerNames | None = None
    """(student's layer, teacher's layer) whose features are compared; None: the logits are."""
    transforms: tuple[str, ...] = ()
    """At most two, the first applied first, the same on both sides."""
    distance: str = "kl"
    weight: float = 1.0
    """Of the loss beside the labels' cross entropy of weight 1; not inside the loss."""
    temperature: float = 1.0
    """Of the softmax in transforms and distance that have one; 1 where none has."""

    @property
    def source(self) -> str:
        """What is compared, in a word: "logits", or both layers."""
        return LOGITS if self.layers is None else f"{self.layers[0]} | {self.layers[1]}"

    @property
    def told(self) -> str:
        """The loss as a formula."""
        inner = self.source
        for transform in self.transforms:
            inner = f"{transform}({inner})"
        softened = f", T={self.temperature:g}" if self.temperature != 1.0 else ""
        return f"{self.weight:g} x {self.distance}({inner}{softened})"

    def to_json(self) -> dict[str, Any]:
        """Return plain values with the version of their form: what `of_json` reads."""
        return {
            "schema": SCHEMA,
            "layers": None if self.layers is None else list(self.layers),
            "transforms": list(self.transforms),
            "distance": self.distance,
            "weight": self.weight,
            "temperature": self.temperature,
        }

    @property
    def key(self) -> str:
        """The canonical text: equal for equal genomes only."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def of_json(cls, value: Mapping[str, Any], *, where: str = "genome") -> "Genome":
        """Read what `to_json` gave; every key must be there, and no other.

        Raises:
            BadInput: another version, missing or unknown keys, values of another kind, more transforms than
                two, a weight or temperature that is no finite number above 0; `where` names the place.
        """
        if value.get("schema") != SCHEMA:
            raise BadInput(f"{where}: schema is {value.get('schema')!r}; expected {SCHEMA}; search again")
        expected = {"schema", *cls._fields}
        if set(value) != expected:
            missing, more = sorted(expected - set(value)), sorted(set(value) - expected)
            told = f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(map(str, more)) or 'none'}"
            raise BadInput(f"{where}: its keys must be {', '.join(sorted(expected))} ({told})")
        layers = value["layers"]
        transforms = _names(value["transforms"], what=f"{where}: transforms")
        if len(transforms) > MAX_TRANSFORMS:
            raise BadInput(f"{where}: {len(transforms)} transforms; expected at most {MAX_TRANSFORMS}")
        return cls(
            layers=None if layers is None else _pair(layers, what=f"{where}: layers"),
            transforms=transforms,
            distance=_names([value["distance"]], what=f"{where}: distance")[0],
            weight=_positive(value["weight"], what=f"{where}: weight"),
            temperature=_positive(value["temperature"], what=f"{where}: temperature"),
        )


def _names(value: Any, *, what: str) -> tuple[str, ...]:
    if not (isinstance(value, list | tuple) and all(isinstance(name, str) and name for name in value)):
        raise BadInput(f"{what}: found {value!r}; expected names")
    return tuple(value)


def _pair(value: Any, *, what: str) -> LayerNames:
    names = _names(value, what=what)
    if len(names) != PAIR:
        raise BadInput(f"{what}: found {value!r}; expected the student's layer and the teacher's, or null")
    return names[0], names[1]


def _positive(value: Any, *, what: str) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and value > 0):
        raise BadInput(f"{what}: found {value!r}; expected a number above 0")
    return float(value)

"""What a search has found out so far, in a file that is new after every evaluation.

A search is a function of its settings and of what its evaluations gave. So nothing of its course is kept:
one that was killed begins anew, finds the verdicts and fitnesses it had, and goes the same way.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish_json, read_json
from wsi_kd.kd.search.genome import Genome
from wsi_kd.kd.search.rejection import Verdict

SCHEMA: Final = "wsi_kd distiller search 1"
REMAKE: Final = "the same search, after deleting this file"


class Rated(NamedTuple):
    """What an evaluation gave."""

    genome: Genome
    """The first of those with its signature."""
    fitness: float | None
    """None: the training failed."""
    failure: str
    """Why, if it did."""


class Journal:
    """Verdicts by genome and fitnesses by signature.

    Raises:
        BadInput: `path` holds a damaged file, or one of another search.
    """

    def __init__(self, path: Path | None, *, identity: Mapping[str, Any]) -> None:
        self._path, self._identity = path, dict(identity)
        self.verdicts: dict[str, Verdict] = {}
        """By `Genome.key`."""
        self.rated: dict[str, Rated] = {}
        """By signature, in the order of the evaluations."""
        if path is not None and path.is_file():
            self._read(path)

    def note(self, signature: str, rated: Rated) -> None:
        """Add an evaluation and write all that is known.

        Raises:
            RunFailed: the disk is full.
        """
        self.rated[signature] = rated
        if self._path is not None:
            publish_json(
                self._path,
                {
                    "schema": SCHEMA,
                    "identity": self._identity,
                    "verdicts": {key: list(verdict) for key, verdict in self.verdicts.items()},
                    "rated": {
                        signature: {**rated._asdict(), "genome": rated.genome.to_json()}
                        for signature, rated in self.rated.items()
                    },
                },
            )

    def _read(self, path: Path) -> None:
        stored = read_json(path, remake=REMAKE)
        if stored.get("schema") != SCHEMA:
            raise BadInput(
                f"{path}: no state of a search of this version; delete it to search from the start"
            )
        for name, value in self._identity.items():
            if stored["identity"].get(name) != value:
                raise BadInput(
                    f"{path}: it is of another search, whose {name} is {stored['identity'].get(name)!r} and "
                    f"not {value!r}; delete it to search from the start, or name another file"
                )
        self.verdicts = {key: Verdict(*verdict) for key, verdict in stored["verdicts"].items()}
        self.rated = {
            signature: _rated(rated, where=str(path)) for signature, rated in stored["rated"].items()
        }


def _rated(value: Mapping[str, Any], *, where: str) -> Rated:
    return Rated(Genome.of_json(value["genome"], where=where), value["fitness"], value["failure"])

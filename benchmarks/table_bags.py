"""The classic drug and picture bags: musk1 (molecules) and elephant (pictures), without instance truth.

| name | bags | instances | features | file below the data folder |
|---|---|---|---|---|
| `musk1` | 92, 47 positive | 476 shapes of a molecule | 166 | `mil/misvm_musk1.data` (C4.5) |
| `elephant` | 200, 100 positive | 1,391 segments of a picture | 230 | `mil/rosas_csv/elephant.csv` |

Sources: Dietterich et al., Artificial Intelligence 1997; Andrews et al., NeurIPS 2002.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from bag_parts import make_bags
from wsi_kd.bags.datasets import BagSet
from wsi_kd.core.errors import BadInput, unknown_name

UNKNOWN: Final = -1


class Line(NamedTuple):
    """One instance of a table."""

    bag: str
    label: str
    values: Sequence[str]


def read_table_bags(name: str, *, data: Path) -> BagSet:
    """Read a table by name.

    Raises:
        BadInput: an unknown name, a file that is absent or not of the form told above.
    """
    if name not in TABLES:
        raise unknown_name("table of bags", name, TABLES)
    return TABLES[name](data)


def read_musk1(data: Path) -> BagSet:
    """Read C4.5 lines: molecule, its shape's name, features, label, and a full stop."""
    path = data / "mil" / "misvm_musk1.data"
    rows = [line.rstrip(".").split(",") for line in _lines(path)]
    return _gather(path, [Line(row[0], row[-1].removesuffix("."), row[2:-1]) for row in rows])


def read_elephant(data: Path) -> BagSet:
    """Read lines of label, bag, features."""
    path = data / "mil" / "rosas_csv" / "elephant.csv"
    rows = [line.split(",") for line in _lines(path)]
    return _gather(path, [Line(f"picture_{row[1]}", row[0], row[2:]) for row in rows])


TABLES: Final[dict[str, Callable[[Path], BagSet]]] = {"musk1": read_musk1, "elephant": read_elephant}


def _lines(path: Path) -> list[str]:
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read ({error}); name the data folder with --data") from None
    if not found or min(line.count(",") for line in found) < 2:
        raise BadInput(f"{path}: expected lines of comma-separated values; copy it again")
    return found


def _gather(path: Path, lines: Sequence[Line]) -> BagSet:
    """Put the instances of a bag together, bags in the order of their first line."""
    members: dict[str, list[Line]] = {}
    for line in lines:
        members.setdefault(line.bag, []).append(line)
    labels = {bag: {line.label for line in found} for bag, found in members.items()}
    odd = [bag for bag, found in labels.items() if found not in ({"0"}, {"1"})]
    if odd:
        raise BadInput(
            f"{path}: bag {odd[0]} is labeled {' and '.join(sorted(labels[odd[0]]))}; expected 0 or 1"
        )
    try:
        features = np.array([line.values for found in members.values() for line in found], np.float32)
    except ValueError as error:
        raise BadInput(f"{path}: lines of different lengths or no numbers ({error}); copy it again") from None
    return make_bags(
        features,
        sizes=[len(found) for found in members.values()],
        labels=np.array([found == {"1"} for found in labels.values()]).astype(np.int64),
        tile_labels=np.full(len(lines), UNKNOWN, np.int8),
        names=tuple(members),
    )

"""A finished run, checked by hash and against itself: nothing is made anew, nothing is written."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from wsi_kd.core.errors import BadInput
from wsi_kd.core.progress import progress
from wsi_kd.steps.verified_chain import (
    evaluation_faults,
    precision_faults,
    prediction_faults,
    report_faults,
    slide_faults,
    split_faults,
)
from wsi_kd.steps.verified_files import check_file

AGREEMENTS: tuple[tuple[str, Callable[[Path], Iterator[tuple[Path, str]]]], ...] = (
    ("slides: status tables and files", slide_faults),
    ("split: statuses, cases, parts", split_faults),
    ("predictions: model, split, tiles", prediction_faults),
    ("evaluation: predictions", evaluation_faults),
    ("precision: models, features", precision_faults),
    ("report: evaluation", report_faults),
)
"""What must fit together, by the name that the table has for it."""


class Fault(NamedTuple):
    """One thing that is wrong, in the words of one line."""

    file: str
    """Below the run's folder."""
    what: str


class Checked(NamedTuple):
    """One line of the table."""

    what: str
    files: int
    """Files that were looked at; 0 of what is a comparison between files."""
    faults: tuple[Fault, ...]


class Verified(NamedTuple):
    """All that was checked."""

    checks: tuple[Checked, ...]

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Every fault once, in order."""
        return tuple(dict.fromkeys(fault for check in self.checks for fault in check.faults))

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        checks = [{"what": one.what, "files": one.files, "faults": len(one.faults)} for one in self.checks]
        return {"ok": not self.faults, "checks": checks, "faults": [one._asdict() for one in self.faults]}


def verify_run(root: Path) -> Verified:
    """Check every file of a run by the hash that it carries, and the files against each other.

    Every byte of masks, tiles, features, weights and tables is read. Pages, pictures and logs carry no hash.

    Raises:
        BadInput: no such folder, or one in which no run has ever written.
    """
    if not root.is_dir():
        raise BadInput(f"{root}: no such folder; expected a run's run.results_dir")
    if not any((root / name).exists() for name in ("status.csv", "masks", "features")):
        raise BadInput(f"{root}: no run's folder (no status.csv, masks or features in it)")
    alone = _files(root)
    told = {(fault.file, fault.what) for check in alone for fault in check.faults}
    together = tuple(_agreement(name, find, root, told=told) for name, find in AGREEMENTS)
    return Verified((*alone, *together))


def _files(root: Path) -> tuple[Checked, ...]:
    """Check each file by itself; one line a kind."""
    paths = [path for path in sorted(root.rglob("*")) if not path.is_dir() or path.is_symlink()]
    counts: Counter[str] = Counter()
    faults: dict[str, list[Fault]] = {}
    with progress("verify", total=len(paths), unit="files") as advance:
        for path in paths:
            kind, fault = check_file(path, root)
            counts[kind] += 1
            if fault:
                faults.setdefault(kind, []).append(Fault(str(path.relative_to(root)), fault))
            advance(note=fault)
    return tuple(Checked(kind, counts[kind], tuple(faults.get(kind, ()))) for kind in sorted(counts))


def _agreement(
    name: str,
    find: Callable[[Path], Iterator[tuple[Path, str]]],
    root: Path,
    *,
    told: set[tuple[str, str]],
) -> Checked:
    """Compare files; one that cannot be read ends the comparison, and is told once."""
    faults: list[Fault] = []
    try:
        faults += [Fault(str(path.relative_to(root)), what) for path, what in find(root)]
    except BadInput as error:
        file, _, what = str(error).removeprefix(f"{root}/").partition(": ")
        if (file, what) not in told:
            faults.append(Fault(file, what))
    return Checked(name, 0, tuple(faults))

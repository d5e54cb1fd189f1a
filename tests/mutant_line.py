"""Cohorts of damaged slides through mask, tile and embed, and what became of them."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from clean_forks import CleanForks
from slide_mutants import SETTINGS

from wsi_kd.core.records import StatusRow
from wsi_kd.steps.status import read_status


class Ended(NamedTuple):
    """Of all damaged slides."""

    statuses: Counter[str]
    crashed: list[StatusRow]
    """Those that crashed their reader, or let it hang."""
    unlike: list[str]
    """Those published as ok with other pixels than a reader gives."""

    @property
    def counts(self) -> str:
        """How many ended in which way, for a figure."""
        return ", ".join(f"{number} {status}" for status, number in self.statuses.most_common())


def end_mutants(
    root: Path, write: Callable[..., None], *, count: int, batch: int, seed: int, limit_s: int
) -> Ended:
    """Write damaged slides by `write(folder, count=, seed=)` and run the line on them, `batch` at a time."""
    ended = Ended(Counter(), [], [])
    with CleanForks(root) as forks:
        for first in range(0, count, batch):
            folder = root / f"from{first}"
            folder.mkdir()
            write(folder, count=min(batch, count - first), seed=seed + first)
            told = [*("--manifest", str(folder / "slides.csv")), "--results-dir", str(folder / "run")]
            for step in ("mask", "tile", "embed"):
                call = [step, *told, "--settings", json.dumps(SETTINGS)]
                done = forks.call("guarded", call, limit_s=limit_s)
                assert (done.code, "Traceback" in done.err) == (0, False), done
            rows = read_status(folder / "run/features/chunk-0.csv")
            ended.statuses.update(str(row.status) for row in rows)
            ended.crashed.extend(row for row in rows if row.status == "reader_crashed")
            again = forks.call("unlike", [str(folder)], limit_s=300)
            assert (again.code, again.err) == (0, ""), again
            ended.unlike.extend(again.out.splitlines())
    return ended

"""G2: no damaged slide kills the command, hangs it, or ends as ok with other pixels than a reader gives."""

import json
from collections import Counter

import pytest
from clean_forks import CleanForks
from slide_mutants import SETTINGS, write_mutants

from wsi_kd.steps.status import read_status

BATCH = 500


@pytest.mark.parametrize("count", [30, pytest.param(3000, marks=pytest.mark.reliability)])
def test_mutants_of_slides_end_with_a_status_each(tmp_path, count, record_property):
    ended, hung, crashed, unlike = Counter(), [], [], []
    with CleanForks(tmp_path) as forks:
        for first in range(0, count, BATCH):
            folder = tmp_path / f"from{first}"
            folder.mkdir()
            write_mutants(folder, count=min(BATCH, count - first), seed=1000 + first)
            told = [*("--manifest", str(folder / "slides.csv")), "--results-dir", str(folder / "run")]
            for step in ("mask", "tile", "embed"):
                done = forks.call("guarded", [step, *told, "--settings", json.dumps(SETTINGS)], limit_s=300)
                assert (done.code, "Traceback" in done.err) == (0, False), done
            rows = read_status(folder / "run/features/chunk-0.csv")
            ended.update(str(row.status) for row in rows)
            crashed += [row for row in rows if row.status == "reader_crashed"]
            hung += [row for row in crashed if "hangs" in row.reason]
            again = forks.call("unlike", [str(folder)], limit_s=300)
            assert (again.code, again.err) == (0, ""), again
            unlike += again.out.splitlines()
    counts = ", ".join(f"{number} {status}" for status, number in ended.most_common())
    record_property(
        "figure",
        f"G2: {ended.total():,} slide mutants, 0 deaths of the command, {len(hung)} hung, {len(unlike)} "
        f"published as ok with other pixels than a reader gives; {counts}",
    )
    assert (ended.total(), hung, unlike) == (count, [], [])
    assert all(row.reason for row in crashed)
    assert ended["ok"] > count / 10  # damage that reaches no pixel, and damage that decodes
    assert ended["unreadable"] > count / 10

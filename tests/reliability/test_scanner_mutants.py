"""G2 on slides of scanners that are known as drawn ones alone: VMS, VMU, NDPI, Sakura, CZI, BIF, DICOM."""

import json
from collections import Counter

import pytest
from clean_forks import CleanForks
from scanner_mutants import write_damaged_scanners
from slide_mutants import SETTINGS

from wsi_kd.steps.status import read_status

COUNT, BATCH = 800, 400


@pytest.mark.reliability
def test_mutants_of_scanners_end_with_a_status_each(tmp_path, record_property):
    ended, crashed, unlike = Counter(), [], []
    with CleanForks(tmp_path) as forks:
        for first in range(0, COUNT, BATCH):
            folder = tmp_path / f"from{first}"
            folder.mkdir()
            write_damaged_scanners(folder, count=min(BATCH, COUNT - first), seed=2000 + first)
            told = [*("--manifest", str(folder / "slides.csv")), "--results-dir", str(folder / "run")]
            for step in ("mask", "tile", "embed"):
                done = forks.call("guarded", [step, *told, "--settings", json.dumps(SETTINGS)], limit_s=500)
                assert (done.code, "Traceback" in done.err) == (0, False), done
            rows = read_status(folder / "run/features/chunk-0.csv")
            ended.update(str(row.status) for row in rows)
            crashed += [row for row in rows if row.status == "reader_crashed"]
            again = forks.call("unlike", [str(folder)], limit_s=300)
            assert (again.code, again.err) == (0, ""), again
            unlike += again.out.splitlines()
    counts = ", ".join(f"{number} {status}" for status, number in ended.most_common())
    record_property(
        "figure",
        f"G2: {ended.total():,} mutants of drawn scanners' slides, 0 deaths of the command, {len(crashed)} "
        f"crashed their reader and were told, {len(unlike)} published as ok with other pixels than a reader "
        f"gives; {counts}",
    )
    assert (ended.total(), unlike) == (COUNT, [])
    assert all(row.reason for row in crashed)
    assert ended["ok"] > COUNT / 10
    assert ended["unreadable"] > COUNT / 10

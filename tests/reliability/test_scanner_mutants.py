"""G2 on slides of scanners that are known as drawn ones alone: VMS, VMU, NDPI, Sakura, CZI, BIF, DICOM."""

import pytest
from mutant_line import end_mutants
from scanner_mutants import write_damaged_scanners

COUNT, BATCH = 800, 400


@pytest.mark.reliability
def test_mutants_of_scanners_end_with_a_status_each(tmp_path, record_property):
    ended = end_mutants(tmp_path, write_damaged_scanners, count=COUNT, batch=BATCH, seed=2000, limit_s=500)
    record_property(
        "figure",
        f"G2: {ended.statuses.total():,} mutants of drawn scanners' slides, 0 deaths of the command, "
        f"{len(ended.crashed)} crashed their reader and were told, {len(ended.unlike)} published as ok with "
        f"other pixels than a reader gives; {ended.counts}",
    )
    assert (ended.statuses.total(), ended.unlike) == (COUNT, [])
    assert all(row.reason for row in ended.crashed)
    assert ended.statuses["ok"] > COUNT / 10
    assert ended.statuses["unreadable"] > COUNT / 10

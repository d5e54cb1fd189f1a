"""G2: no damaged slide kills the command, hangs it, or ends as ok with other pixels than a reader gives."""

import pytest
from mutant_line import end_mutants
from slide_mutants import write_mutants

BATCH = 500


@pytest.mark.parametrize("count", [30, pytest.param(3000, marks=pytest.mark.reliability)])
def test_mutants_of_slides_end_with_a_status_each(tmp_path, count, record_property):
    ended = end_mutants(tmp_path, write_mutants, count=count, batch=BATCH, seed=1000, limit_s=300)
    hung = [row for row in ended.crashed if "hangs" in row.reason]
    record_property(
        "figure",
        f"G2: {ended.statuses.total():,} slide mutants, 0 deaths of the command, {len(hung)} hung, "
        f"{len(ended.unlike)} published as ok with other pixels than a reader gives; {ended.counts}",
    )
    assert (ended.statuses.total(), hung, ended.unlike) == (count, [], [])
    assert all(row.reason for row in ended.crashed)
    assert ended.statuses["ok"] > count / 10  # damage that reaches no pixel, and damage that decodes
    assert ended.statuses["unreadable"] > count / 10

"""workflow/profiles/slurm, slides in a bucket: the run fetches them, jobs read them, a kill loses none."""

import pytest
from cluster_buckets import copies_in, rows_of, without_slides
from cluster_runs import LIMIT_S, contents, kill_the_run, queued, start

pytestmark = pytest.mark.cluster


def test_a_killed_run_on_slides_in_storage_ends_as_a_local_one(
    slurm, bucket, small_cohort, local_run, tmp_path, record_property
):
    folder = without_slides(small_cohort, tmp_path / "run")
    kill_the_run(folder, variables=bucket.variables)
    slides = len(rows_of(small_cohort))
    assert len(copies_in(folder)) == slides
    assert (folder / "first.log").read_text().count("Retrieving from storage") == slides
    before = {job.job for job in queued("")}
    with start(folder, "second.log", variables=bucket.variables) as run:
        code = run.wait(timeout=LIMIT_S)
    said = (folder / "second.log").read_text()
    assert code == 0, said
    assert "Retrieving from storage" not in said  # the killed run's copies are whole, and are used
    assert copies_in(folder) == []
    jobs = [job for job in queued("") if job.job not in before]
    assert {job.state for job in jobs} == {"COMPLETED"}
    assert {job.partition for job in jobs if "embed" in job.comment} == {"gpu"}
    left, expected = contents(folder / "out"), contents(local_run / "out")
    assert sorted(left) == sorted(expected)
    assert [name for name in left if left[name] != expected[name]] == []
    record_property(
        "figure",
        f"SLURM and S3: {slides} slides in a bucket, run killed; {len(left)} files equal to a local "
        "run's, 0 differ",
    )

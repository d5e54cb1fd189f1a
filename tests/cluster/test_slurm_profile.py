"""workflow/profiles/slurm on a real SLURM: jobs and the run itself are killed, and the end is the same."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from cluster_runs import LIMIT_S, Queued, contents, kill_the_run, processes, queued, start, wait_for
from snakemake_runs import ODD

from wsi_kd.steps.status import read_status

pytestmark = pytest.mark.cluster


class Killed(NamedTuple):
    """A run that was killed in three ways and then ended."""

    folder: Path
    said: str
    code: int
    kept: dict[Path, int]
    """Files that were published when the run's own process was killed, with their times."""
    jobs: list[Queued]
    """All jobs of the second run."""


@pytest.fixture(scope="module")
def killed(slurm, small_cohort, tmp_path_factory) -> Killed:
    folder = tmp_path_factory.mktemp("killed") / "run"
    shutil.copytree(small_cohort, folder)
    kept = kill_the_run(folder)
    before = {job.job for job in queued("")}
    with start(folder, "second.log") as run:
        embedding = wait_for(lambda: [job for job in queued("embed") if job.state == "RUNNING"], alive=run)
        subprocess.run(["scancel", embedding[0].job], check=True)
        (training, *_) = wait_for(lambda: processes("train", "--recipe", folder=folder), alive=run)
        os.kill(training, signal.SIGKILL)
        code = run.wait(timeout=LIMIT_S)
    jobs = [job for job in queued("") if job.job not in before]
    return Killed(folder, (folder / "second.log").read_text(), code, kept, jobs)


def test_the_run_ends_well_after_three_kills(killed):
    assert killed.code == 0, killed.said
    assert (killed.folder / "out/checked").is_file()
    assert "Traceback" not in killed.said
    states = {job.state for job in killed.jobs}
    assert states == {"COMPLETED", "CANCELLED", "FAILED"}


def test_files_published_before_the_kill_are_kept(killed):
    assert killed.kept
    assert {path: path.stat().st_mtime_ns for path in killed.kept} == killed.kept


def test_what_it_leaves_equals_an_unkilled_local_run(killed, local_run, record_property):
    left, expected = contents(killed.folder / "out"), contents(local_run / "out")
    assert sorted(left) == sorted(expected)
    assert [name for name in left if left[name] != expected[name]] == []
    record_property(
        "figure",
        f"SLURM: run, job and process killed; {len(left)} files equal to an unkilled local run's, 0 differ",
    )


def test_every_slide_ends_as_in_the_local_run(killed, local_run):
    ends = [
        [
            (row.slide_id, str(row.status), row.reason, row.tiles)
            for row in read_status(folder / "out/status.csv")
        ]
        for folder in (killed.folder, local_run)
    ]
    assert ends[0] == ends[1]
    assert sum(status != "ok" for _, status, _, _ in ends[0]) == len(ODD)


def test_jobs_are_sent_where_the_profile_says(killed):
    """mask and tile go together to CPUs; embed, and train with predict, to cards of their own."""
    seen = {(job.comment.split("_wildcards")[0], job.partition, "gpu" in job.cards) for job in killed.jobs}
    assert seen == {
        ("rule_slides_mask_tile", "cpu", False),
        ("rule_embed", "gpu", True),
        ("rule_split", "cpu", False),
        ("rule_model_predict_train", "gpu", True),
        ("rule_qc", "cpu", False),
        ("rule_results_check_status_evaluate_report", "cpu", False),
    }


def test_a_job_sent_again_gets_more_memory(killed):
    memory = {job.job: job.memory for job in killed.jobs if "embed" in job.comment}
    assert set(memory.values()) == {"16000M", "32000M"}
    assert [job.state for job in killed.jobs if job.memory == "32000M" and "embed" in job.comment] == [
        "COMPLETED"
    ]

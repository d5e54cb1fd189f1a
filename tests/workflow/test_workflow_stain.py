"""Stain normalization in the workflow: who makes the cohort's fit, and who waits for it."""

import shutil

import pytest
from snakemake_runs import edited, run_snakemake

from wsi_kd.core.files import read_json
from wsi_kd.features.store import read_header

pytestmark = pytest.mark.workflow


@pytest.mark.parametrize(
    ("stain", "jobs"),
    [({}, 0), ({"method": "macenko"}, 0), ({"method": "macenko", "fit": "cohort"}, 1)],
)
def test_the_step_is_part_of_runs_that_fit_the_cohort(cohort, tmp_path, stain, jobs):
    folder = tmp_path / "run"
    shutil.copytree(cohort, folder)
    done = run_snakemake(folder, "--dry-run", settings={**edited("run"), "stain": stain})
    assert done.code == 0, done.err
    assert done.jobs().get("stain", 0) == jobs
    assert done.jobs()["embed"] == 2


def test_a_cohorts_fit_reaches_every_feature_file(cohort, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(cohort, folder)
    settings = {**edited("run"), "stain": {"method": "macenko", "fit": "cohort", "tiles": 8}}
    done = run_snakemake(folder, "--until", "embed", settings=settings)
    assert done.code == 0, done.err
    made = read_json(folder / "out/stain/stain.json", remake="")
    headers = [read_header(path) for path in sorted((folder / "out/features").glob("*.h5"))]
    assert len(headers) == 15
    assert all(header["stain"] == made["stain"] for header in headers)
    assert {header["slide_id"] for header in headers if header["stain_source"]} == set(made["slides"])
    again = run_snakemake(folder, "--until", "embed", "--dry-run", settings=settings)
    assert again.jobs() == {}

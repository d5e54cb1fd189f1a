"""What the pods of workflow/profiles/kubernetes run, without Kubernetes, and what is left to do."""

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cluster_runs import run_here
from snakemake_runs import ROOT, SETTINGS

from wsi_kd.steps.status import read_status

pytestmark = pytest.mark.cluster

SLIDES = 15


def test_after_the_pods_of_slides_snakemake_has_no_slide_to_work_on(small_cohort, tmp_path):
    folder = Path(shutil.copytree(small_cohort, tmp_path / "run"))
    (folder / "my.yaml").write_text(yaml.safe_dump(SETTINGS))
    job = yaml.safe_load((ROOT / "workflow/profiles/kubernetes/slides.yaml").read_text())
    pod = job["spec"]["template"]["spec"]["containers"][0]
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    chunks = math.ceil(SLIDES / SETTINGS["run"]["slides_per_job"])
    for number in range(chunks):
        environment = {**os.environ, "PATH": beside, "JOB_COMPLETION_INDEX": str(number)}
        done = subprocess.run(
            [*pod["command"], *pod["args"]],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    tables = [folder / f"out/features/chunk-{number}.csv" for number in range(chunks)]
    assert sum(len(read_status(table)) for table in tables) == SLIDES
    left = run_here(folder, "--dry-run")
    assert left.code == 0, left.err
    assert set(left.jobs()) == {"qc", "split", "train", "predict", "evaluate", "report", "check_status"}

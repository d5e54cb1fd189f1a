"""A SLURM of two nodes on this machine, a storage server, and a small cohort."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_buckets import Bucket, filled_bucket
from cluster_runs import run_here
from snakemake_runs import draw_odd_cohort

SCRIPT = Path(__file__).with_name("slurm.sh")
NOTHING_INSTALLED = 77


@pytest.fixture(scope="session")
def slurm() -> Iterator[None]:
    """Start munged, slurmctld and two slurmd; where that is impossible tests are skipped, with the reason."""
    started = subprocess.run([SCRIPT, "start"], capture_output=True, text=True, check=False)
    if started.returncode == NOTHING_INSTALLED:
        pytest.skip(started.stderr.strip().splitlines()[-1])
    assert started.returncode == 0, started.stderr
    yield
    subprocess.run([SCRIPT, "stop"], check=True)


@pytest.fixture(scope="session")
def small_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `cohort/slides.csv`: twelve good slides and one of each odd kind."""
    return draw_odd_cohort(tmp_path_factory.mktemp("cluster") / "drawn")


@pytest.fixture(scope="session")
def bucket(small_cohort: Path) -> Iterator[Bucket]:
    """The small cohort's slides in a bucket."""
    with filled_bucket(small_cohort) as bucket:
        yield bucket


@pytest.fixture(scope="session")
def local_run(small_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohort, run on this machine by the default profile, undisturbed; write nothing there."""
    folder = Path(shutil.copytree(small_cohort, tmp_path_factory.mktemp("local") / "run"))
    done = run_here(folder)
    assert done.code == 0, done.err
    return folder

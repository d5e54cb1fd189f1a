"""A killed run: nothing half-written stands under a final name, and the next run goes on from there."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from hearing import HEARING
from snakemake_runs import SETTINGS, arguments, run_snakemake

from wsi_kd.features.store import read_features
from wsi_kd.steps.status import read_status

pytestmark = pytest.mark.workflow

TARGET = "out/features/chunk-0.csv"
PUBLISHED = "out/features/[!.]*.h5"
WAIT_S = 600
HOLD = """
import os, sys, time
if "embed" in sys.orig_argv:
    replace, published = os.replace, []
    def replace_one(source, target, **others):
        if str(target).endswith(".h5"):
            for _ in range(36000 * len(published)):
                time.sleep(0.1)  # what arrives just before one long sleep is heard after it
            published.append(target)
        return replace(source, target, **others)
    os.replace = replace_one
"""
"""As `sitecustomize`: the second feature file stays under its hidden name, however late it is looked for."""


def start_and_stop(folder: Path, how: signal.Signals) -> list[Path]:
    """Run until the first feature file is published, end all its processes; return the files published."""
    command = [*HEARING, *arguments(folder, SETTINGS), TARGET]
    (folder / "sitecustomize.py").write_text(HOLD)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    log = (folder / "snakemake.log").open("w")
    with (
        log,
        subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment) as job,
    ):
        limit = time.monotonic() + WAIT_S
        while not list(folder.glob(PUBLISHED)):
            assert job.poll() is None, (folder / "snakemake.log").read_text()
            assert time.monotonic() < limit
            time.sleep(0.02)
        os.killpg(job.pid, how)
        job.wait(timeout=WAIT_S)
    assert not (folder / TARGET).exists()
    published = sorted(folder.glob(PUBLISHED))
    assert len(published) == 1
    return published


@pytest.fixture
def place(cohort, tmp_path):
    return Path(shutil.copytree(cohort, tmp_path / "run"))


def test_after_sigkill_files_are_whole_and_the_next_run_keeps_them(place):
    published = start_and_stop(place, signal.SIGKILL)
    before = {path: path.stat().st_mtime_ns for path in published}
    for path in published:
        assert read_features(path).slide_id == path.stem
    assert run_snakemake(place, TARGET).code == 0  # the kernel let go of the lock: nothing to unlock
    assert {path: path.stat().st_mtime_ns for path in published} == before
    assert [row.status for row in read_status(place / TARGET)] == ["ok"] * 8
    assert list(place.glob("out/**/.tmp-*")) == []


def test_after_ctrl_c_the_next_run_needs_no_unlocking(place):
    published = start_and_stop(place, signal.SIGINT)
    before = {path: path.stat().st_mtime_ns for path in published}
    assert list(place.glob("out/**/.tmp-*")) == []
    assert run_snakemake(place, TARGET).code == 0
    assert {path: path.stat().st_mtime_ns for path in published} == before
    assert len(read_status(place / TARGET)) == 8

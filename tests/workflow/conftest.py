"""A small drawn cohort, and the workflow run on it once: the workflow tests start from these."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from snakemake_runs import Done, draw_odd_cohort, run_snakemake


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `cohort/slides.csv`: twelve good slides and one of each odd kind."""
    return draw_odd_cohort(tmp_path_factory.mktemp("workflow"))


@pytest.fixture(scope="session")
def finished(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """The whole workflow, run once to its end; write nothing there."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    shutil.copytree(cohort, folder)
    return folder, run_snakemake(folder)


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """Copy a run with its times and Snakemake's memory, to do with it what one likes."""

    def copy(folder: Path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / "copy"))

    return copy

"""A small drawn cohort, and the workflow run on it once: the workflow tests start from these."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from snakemake_runs import ODD, Done, run_snakemake
from synthetic import draw_cohort, draw_slide


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `cohort/slides.csv`: twelve good slides and one of each odd kind."""
    folder = tmp_path_factory.mktemp("workflow")
    (folder / "cohort").mkdir()
    manifest = draw_cohort(folder / "cohort").manifest
    lines = []
    for kind in ODD:
        slide = draw_slide(folder / "cohort", kind, name=f"odd_{kind}")
        lines.append(f"odd_{kind},{slide.path.name},{slide.label},odd_{kind},A,\n")
    with manifest.open("a") as handle:
        handle.writelines(lines)
    return folder


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

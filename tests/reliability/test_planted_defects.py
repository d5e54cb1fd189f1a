"""Would a defect be noticed? Each planted one turns a test red that is green without it (G18)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from planted_defects import DEFECTS, Defect

ROOT = Path(__file__).resolve().parent.parent.parent
LIMIT_S = 1800


@pytest.fixture(scope="module")
def copied(tmp_path_factory) -> Path:
    """The project without its results, to be broken."""
    copy = tmp_path_factory.mktemp("broken") / "project"
    copy.mkdir()
    for name in ("wsi_kd", "tests", "benchmarks", "configs", "docs", "workflow"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "Snakefile", "README.md", "Makefile", "constraints.txt"):
        shutil.copy(ROOT / name, copy)
    return copy


def run_tests(project: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run tests of the copy in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", UNMARKED, *tests],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


SLOW = ("workflow", "shared_data", "browser", "gpu", "reliability", "cluster")
UNMARKED = " and ".join(f"not {marker}" for marker in SLOW)


def test_every_defect_has_one_place():
    for defect in DEFECTS:
        assert (ROOT / "wsi_kd" / defect.file).read_text().count(defect.old) == 1, defect.name
        assert defect.old != defect.new, defect.name
    assert len({defect.name for defect in DEFECTS}) == len(DEFECTS) >= 25


@pytest.mark.reliability
@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_planted_defect_turns_a_test_red(copied: Path, defect: Defect, record_property):
    file = copied / "wsi_kd" / defect.file
    sound = file.read_text()
    file.write_text(sound.replace(defect.old, defect.new, 1))
    try:
        ended = run_tests(copied, defect.tests)
    finally:
        file.write_text(sound)
    said = ended.stdout.strip().splitlines()
    assert ended.returncode == 1, f"{defect.name}: {said[-3:]} {ended.stderr[-500:]}"
    assert "failed" in said[-1], f"{defect.name}: {said[-3:]}"
    record_property("figure", f"G18: {len(DEFECTS)} planted defects, each turned a test red")


@pytest.mark.reliability
def test_without_a_defect_the_same_tests_are_green(copied: Path):
    tests = tuple(sorted({test for defect in DEFECTS for test in defect.tests}))
    ended = run_tests(copied, tests)
    assert ended.returncode == 0, ended.stdout[-2000:]

"""Fixtures for the whole suite; shapes and types are checked at run time while tests run."""

import os
from pathlib import Path

import pytest
from checked_calls import begin_test
from jaxtyping import install_import_hook

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

CHECKED = [
    "slides",
    "tissue",
    "tiling",
    "features",
    "bags",
    "mil",
    "kd",
    "training",
    "inference",
    "evaluation",
    "demo",
    "report",
    "viewer",
    "claims",
    "distillation",
]
BENCHMARKS = (
    "bag_parts",
    "experiment_file",
    "experiment_jobs",
    "experiment_problems",
    "experiment_scores",
    "experiment_tables",
    "gaussian_bags",
    "image_bags",
    "labeled_images",
    "logistic_baselines",
    "table_bags",
)
install_import_hook([*(f"wsi_kd.{name}" for name in CHECKED), *BENCHMARKS], "checked_calls.check")

pytest_plugins = ["synthetic"]

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with long tests first: of several processes, the one that begins the last file ends last."""
    long = {one.path for one in items if one.get_closest_marker("workflow") or one.get_closest_marker("slow")}
    items.sort(key=lambda one: one.path not in long)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Let the annotations of every function's first calls be checked anew in each test."""
    begin_test()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real slides beside the checkout; tests that need it are skipped where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"real test data not found at {folder}")
    return folder


@pytest.fixture(scope="session")
def shared_reference() -> Path:
    """The folder of reference numbers beside the checkout."""
    folder = SHARED / "reference"
    if not folder.is_dir():
        pytest.skip(f"reference numbers not found at {folder}")
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figure that a test of docs/reliability.md recorded as its property `figure`."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    figures = sorted(
        {str(value) for report in reports for name, value in report.user_properties if name == "figure"}
    )
    if figures:
        terminalreporter.section("figures")
        for figure in figures:
            terminalreporter.line(figure)

"""Fixtures for the whole suite; shapes and types are checked at run time while tests run."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook
from same_start import begin_alike, begun_apart

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
for terminal in ("COLUMNS", "LINES", "FORCE_COLOR", "PY_COLORS", "CLICOLOR_FORCE", "GITHUB_ACTIONS"):
    os.environ.pop(terminal, None)  # what is printed is compared as it stands in a pipe of the usual width

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

# The same examples in every run, and no clock: a machine that stands still for a second is no fault.
settings.register_profile(
    "tests", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with long tests first: of several processes, the one that begins the last file ends last."""
    long = {one.path for one in items if one.get_closest_marker("workflow") or one.get_closest_marker("slow")}
    items.sort(key=lambda one: one.path not in long)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin each test as if it were the first."""
    begin_alike()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> Iterator[None]:
    """Make what tests share alike, whichever of them asks first, and let that one's own draws be."""
    if fixturedef.scope == "function":
        return (yield)
    with begun_apart():
        return (yield)


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

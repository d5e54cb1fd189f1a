"""One headless Chromium a session; each test has a page of its own whose faults are collected."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from browser_pages import Watched
from drawn_view import ViewMaker, served
from playwright.sync_api import Browser, BrowserContext, sync_playwright

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",  # CI runs as root, where Chromium's sandbox cannot
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers give it 64 MB
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SIZE = {"width": 1200, "height": 760}
ROOT = Path(__file__).resolve().parents[2]


def runs(program: str) -> bool:
    """Tell whether a program starts at all: Ubuntu's chromium-browser may only say that it is elsewhere."""
    return subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium of the system; without one all these tests are skipped, and say so."""
    found = next(filter(runs, filter(None, map(shutil.which, CHROMIUM))), None)
    if found is None:
        pytest.skip(
            f"NO BROWSER: none of {', '.join(CHROMIUM)} is on PATH and runs; apt-get install chromium"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def new_context(browser: Browser) -> Callable[[], AbstractContextManager[BrowserContext]]:
    """Make a browser without cookies, closed by `with`."""

    @contextmanager
    def new() -> Iterator[BrowserContext]:
        context = browser.new_context(viewport=SIZE, color_scheme="light", reduced_motion="reduce")
        context.set_default_timeout(120_000)
        yield context
        context.close()

    return new


@pytest.fixture
def context(new_context) -> Iterator[BrowserContext]:
    """Cookies of one test."""
    with new_context() as context:
        yield context


@pytest.fixture
def watch(context: BrowserContext) -> Callable[[], Watched]:
    """Open a page more in this test's context."""
    return lambda: Watched(context.new_page())


@pytest.fixture
def watched(watch) -> Watched:
    return watch()


@pytest.fixture(scope="session")
def view_maker(tmp_path_factory) -> ViewMaker:
    return ViewMaker(tmp_path_factory.mktemp("viewed"))


@pytest.fixture(scope="session")
def viewer_url(view_maker) -> Iterator[str]:
    """Address of the viewer, token included."""
    with served(view_maker.viewed) as url:
        yield url


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Folder of the pictures that CI keeps."""
    folder = Path(os.environ.get("WSI_KD_SCREENSHOTS") or ROOT / "results" / "browser")
    folder.mkdir(parents=True, exist_ok=True)
    return folder

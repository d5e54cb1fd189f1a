"""The documentation's pictures of viewer and report, taken by the browser that tests them.

`make screenshots` takes them of results/demo for docs/figures; without WSI_KD_RUN they are of drawn slides
and lie beside the other screenshots.
"""

import os
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from browser_pages import CENTER, Watched
from drawn_view import served
from PIL import Image
from report_runs import hostile_page

from wsi_kd.steps.known_slides import Sources
from wsi_kd.steps.view import collect_viewed
from wsi_kd.viewer.record import Viewed

pytestmark = pytest.mark.browser

HIGHEST = """() => {
  const {scores, highest} = viewer.overlay;
  return [scores.x, scores.y].map((corners) => corners[highest[0]] + scores.edge / 2);
}"""
"""Where the highest tile has its middle, level-0 pixels."""
WIDTH_PX, HEIGHT_PX = 1360, 850


class Shown(NamedTuple):
    """What the pictures are of, and where they go."""

    viewed: Viewed
    report: Path
    folder: Path


@pytest.fixture(scope="module")
def shown(view_maker, screenshots, tmp_path_factory) -> Shown:
    if "WSI_KD_RUN" not in os.environ:
        folder = screenshots / "figures"
        folder.mkdir(exist_ok=True)
        return Shown(view_maker.viewed, hostile_page(tmp_path_factory.mktemp("report")), folder)
    run = Path(os.environ["WSI_KD_RUN"])
    sources = Sources(manifest=Path(os.environ["WSI_KD_MANIFEST"]))
    return Shown(
        collect_viewed(run, sources),
        run.resolve() / "report" / "index.html",
        Path(os.environ["WSI_KD_FIGURES"]),
    )


@pytest.fixture
def watched(browser):
    """A page of the pictures' size."""
    context = browser.new_context(viewport={"width": WIDTH_PX, "height": HEIGHT_PX}, color_scheme="light")
    yield Watched(context.new_page())
    context.close()


def take_picture(watched: Watched, path: Path) -> np.ndarray:
    """Write what is seen in 256 colors, dithered so that color bars stay smooth; returns its pixels."""
    image = Image.open(BytesIO(watched.page.screenshot())).convert("RGB")
    colors = image.quantize(256, method=Image.Quantize.FASTOCTREE)
    image.quantize(palette=colors, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    return np.asarray(Image.open(path).convert("RGB"))


def test_picture_of_the_viewer(watched, shown) -> None:
    annotated = next(one for one in shown.viewed.slides if one.annotation and one.tiles)
    with served(shown.viewed) as url:
        page = watched.open(url, None)
        page.evaluate("(id) => { location.hash = new URLSearchParams({slide: id}); }", annotated.slide_id)
        watched.ready(annotated.slide_id)
        page.wait_for_function("() => viewer.stage.annotations.length > 0")
        page.mouse.move(*page.evaluate(CENTER, page.evaluate(HIGHEST)))
        page.wait_for_selector("#tile dl")
        picture = take_picture(watched, shown.folder / "viewer.png")
    assert picture.shape == (HEIGHT_PX, WIDTH_PX, 3)
    assert picture.std() > 20
    assert watched.faults == []


def test_picture_of_the_report(watched, shown) -> None:
    watched.page.goto(shown.report.as_uri())
    picture = take_picture(watched, shown.folder / "report.png")
    assert picture.shape == (HEIGHT_PX, WIDTH_PX, 3)
    assert picture.std() > 20
    assert watched.faults == []

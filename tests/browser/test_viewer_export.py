"""The static export in a real browser, opened from disk: no server, no network."""

import numpy as np
import pytest
from browser_pages import OVERLAY_COLORS
from drawn_view import HOSTILE, WENO

from wsi_kd.viewer.desk import Desk
from wsi_kd.viewer.export import plan_export, write_export

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def exported(view_maker, tmp_path_factory):
    """Export slides by their place in the list, at 1 um/px: half of what the slide has."""
    folder, desk = tmp_path_factory.mktemp("exports"), Desk(view_maker.viewed, show_labels=False)

    def export(index: int):
        plan = plan_export(desk, index, um_per_px=1.0)
        write_export(desk, plan, folder / str(index), threads=1, on_tile=lambda: None)
        return folder / str(index) / "index.html"

    yield export
    desk.close()


def test_an_export_opens_from_disk_with_tiles_and_scores(watched, exported, view_maker, screenshots) -> None:
    address = exported(2).as_uri()
    page = watched.open(address, "bounds")
    assert watched.faults == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in watched.requests)
    tiles = [url for url in watched.requests if "/tiles/" in url]
    assert max(int(url.split("/")[-2]) for url in tiles) == 9  # 1,024 px wide: level 10 is full, 9 half of it
    values = view_maker.tables["bounds", WENO.key].student_probability[:, 0]
    colormap = page.evaluate("window.WSI_KD_EXPORT.run.colormap")
    scores = page.evaluate("window.WSI_KD_EXPORT.scores")[WENO.key]
    centers = (np.column_stack([scores["x"], scores["y"]]) + 64).tolist()
    expected = [None if np.isnan(value) else colormap[int(256 * value)] for value in values]
    assert page.evaluate(OVERLAY_COLORS, centers) == expected
    page.wait_for_function("() => viewer.stage.annotations.length === 1")
    page.locator("#show-overlay").uncheck()
    assert watched.pixels().std() > 20  # the tissue itself
    page.screenshot(path=screenshots / "viewer_export.png")


def test_a_link_into_an_export_leads_back(watched, watch, exported) -> None:
    page = watched.open(exported(1).as_uri() + "#slide=tumor&x=300&y=400&zoom=2&threshold=0.5", "tumor")
    page.wait_for_function(
        "() => location.hash.includes('threshold=0.5') && location.hash.includes('model=')"
    )
    second = watch()
    second.open(page.url, "tumor")
    assert (second.pixels() == watched.pixels()).all()
    view = second.page.evaluate("viewer.stage.view")
    assert (view["x"], view["y"], view["zoom"]) == pytest.approx((300, 400, 2))
    assert second.faults == []


def test_hostile_text_runs_nothing_from_disk_either(watched, exported) -> None:
    page = watched.open(exported(5).as_uri(), HOSTILE)
    assert page.evaluate("document.getElementById('slide-id').textContent") == HOSTILE
    assert page.evaluate("window.hacked") is None
    assert watched.faults == []


def test_an_export_without_its_data_says_so(watched, exported) -> None:
    page = exported(0)
    (page.parent / "data.js").unlink()
    watched.page.goto(page.as_uri())
    watched.page.wait_for_selector("#message:not([hidden])")
    told = watched.page.locator("#message").inner_text()
    assert told == "Nothing can be shown: data.js is missing beside this page; export the slide again"

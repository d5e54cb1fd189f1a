"""The viewer in a real browser: what it loads, the list, the verdict, and failures in words."""

import pytest
from drawn_view import ABMIL, HOSTILE, OTHER_FOLD, WENO

from wsi_kd.core.provenance import RESEARCH_ONLY

pytestmark = pytest.mark.browser

NAMELESS = """[...document.querySelectorAll("button, input, select, a[href], canvas:not([aria-hidden])")]
  .filter((item) => !item.closest("#slide"))
  .map((item) => [item, item.getAttribute("aria-label"), item.labels?.[0]?.textContent, item.textContent])
  .filter(([, ...names]) => !names.some((name) => name?.trim()))
  .map(([item]) => item.outerHTML)"""


def slide_ids(page):
    return page.locator("#rows .id").all_text_contents()


def test_the_viewer_loads_without_a_fault_and_asks_nobody_else(watched, viewer_url, screenshots) -> None:
    page = watched.open(viewer_url, "normal")
    assert watched.faults == []
    origin = viewer_url.split("?")[0]
    assert {url for url in watched.requests if not url.startswith((origin, "data:"))} == set()
    assert "token" not in page.url
    assert page.locator(".banner").inner_text() == RESEARCH_ONLY
    assert page.locator("#title").inner_text() == "drawn run"
    assert page.title() == "normal \u2013 drawn run"
    assert slide_ids(page)[:5] == ["normal", "tumor", "bounds", "empty", "gone"]
    pixels = watched.pixels()
    assert pixels.std() > 20  # tissue, glass and scores, not one color
    page.screenshot(path=screenshots / "viewer.png")


def test_filters_search_and_order_of_the_list(watched, viewer_url) -> None:
    page = watched.open(viewer_url, "normal")
    found = {}
    for name in ("wrong", "uncertain", "failed", "ood", "all"):
        page.locator(f"#filters input[value={name}]").check(force=True)
        found[name] = slide_ids(page)
    assert found["wrong"] == ["tumor", HOSTILE]
    assert found["uncertain"] == ["tumor", "bounds"]  # 0.15 and 0.05 from the threshold; 0.2 is the limit
    assert (found["failed"], found["ood"], len(found["all"])) == (["empty"], ["bounds"], 6)
    assert page.locator("[data-count=wrong]").inner_text() == "2"
    page.locator("#find").fill("south")
    assert slide_ids(page) == ["tumor", "bounds", "empty"]
    assert page.locator("#shown").inner_text() == "3 of 6 slides by weno/seed0"
    page.locator("#find").fill("")
    page.locator("#sort").select_option("student")
    assert slide_ids(page)[1:] == ["bounds", "tumor", "normal", "gone", "empty"]  # .9 .45 .25 .1 .05 none
    assert watched.faults == []


def test_light_and_dark(watched, viewer_url, screenshots) -> None:
    page = watched.open(viewer_url, "normal")
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    page.locator("#theme").click()
    assert page.evaluate(paper) == "rgb(20, 24, 30)"
    page.screenshot(path=screenshots / "viewer_dark.png")
    page.emulate_media(color_scheme="dark")
    page.locator("#theme").click()
    assert page.evaluate(paper) == "rgb(255, 255, 255)"


def test_a_narrow_window_shows_all_without_sideways_scrolling(watched, viewer_url) -> None:
    watched.page.set_viewport_size({"width": 420, "height": 800})
    page = watched.open(viewer_url, "normal")
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    assert page.locator("#slide").bounding_box()["width"] == 420
    assert page.evaluate("viewer.stage.overlay.clientWidth") == 420
    assert page.locator("#opacity").bounding_box()["width"] > 200


def test_every_control_has_a_name_and_ids_are_unique(watched, viewer_url) -> None:
    page = watched.open(viewer_url, "normal")
    assert page.evaluate(NAMELESS) == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((item) => item.id)")
    assert len(ids) == len(set(ids))
    page.locator("#find").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "filter"


def test_failures_are_told_in_words(watched, viewer_url) -> None:
    page = watched.open(f"{viewer_url}#slide=empty", "empty")
    assert "Not scored: empty (mask). no tissue: 0.0 %" in page.locator("#verdict").inner_text()
    assert page.locator("#no-scores").inner_text() == "No tile scores for this slide."
    assert page.locator("#overlay-controls").is_hidden()
    page.keyboard.press("j")
    watched.ready("gone")
    assert (
        page.locator("#message")
        .inner_text()
        .startswith("This slide cannot be shown: where this slide's file lies")
    )
    assert page.locator("#scale").is_hidden()
    page.keyboard.press("k")
    watched.ready("empty")
    assert page.locator("#message").is_hidden()
    page.evaluate("location.hash = '#slide=nowhere'")
    page.wait_for_function(
        "() => document.getElementById('announce').textContent.startsWith('No slide nowhere here')"
    )


def test_wrong_label_and_out_of_distribution_are_in_the_verdict(watched, viewer_url) -> None:
    page = watched.open(f"{viewer_url}#slide=tumor", "tumor")
    told = page.locator("[data-role=student]").inner_text()
    assert [word in told for word in ("calls normal", "wrong", "0.25", "threshold 0.4")] == [True] * 4
    assert "right" in page.locator("[data-role=teacher]").inner_text()
    page.keyboard.press("j")
    watched.ready("bounds")
    assert "Out of distribution" in page.locator("#verdict").inner_text()
    assert HOSTILE not in page.locator("#verdict").inner_text()


def test_each_slide_is_judged_by_the_fold_that_tested_it(watched, viewer_url) -> None:
    page = watched.open(viewer_url, "normal")
    page.keyboard.press("j")
    watched.ready("tumor")
    models = page.locator("#model option").all_text_contents()
    assert models == [WENO.key, ABMIL.key, OTHER_FOLD.key]  # those with tile scores first
    assert page.locator("#model").input_value() == WENO.key
    assert "wrong" in page.locator("#rows [aria-current]").inner_text()
    page.locator("#model").select_option(OTHER_FOLD.key)
    page.wait_for_selector("#no-scores:not([hidden])")
    assert "Validation slide" in page.locator("#verdict").inner_text()
    assert page.locator("[data-role=student] data").first.get_attribute("value") == "0.7"
    assert "wrong" in page.locator("#rows [aria-current]").inner_text()  # the list stays with test slides
    page.locator("#model").select_option(ABMIL.key)
    page.wait_for_selector("#overlay-controls:not([hidden])")
    assert "by abmil/seed0" in page.locator("#shown").inner_text()
    assert "wrong" not in page.locator("#rows [aria-current]").inner_text()
    page.keyboard.press("k")
    watched.ready("normal")
    assert page.locator("#model").input_value() == ABMIL.key

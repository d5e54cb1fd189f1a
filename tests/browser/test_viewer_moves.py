"""Keys and links of the viewer in a real browser."""

import json
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from browser_pages import scores_of
from drawn_view import WENO

pytestmark = pytest.mark.browser

LINK_SAYS = """(wanted) => {
  const link = new URLSearchParams(location.hash.slice(1));
  return Object.entries(wanted).every(([key, value]) => link.get(key) === value);
}"""


def link_of(page, **expected):
    """The address's fragment, once it says what is expected."""
    page.wait_for_function(LINK_SAYS, arg=expected)
    return {key: values[0] for key, values in parse_qs(urlsplit(page.url).fragment).items()}


def test_the_keys_that_the_help_names_do_what_it_says(watched, viewer_url) -> None:
    page = watched.open(viewer_url, "normal")
    page.keyboard.press("?")
    named = page.locator("#keys kbd").all_inner_texts()
    assert {"j", "k", "o", "m", "t", "]", "[", ".", "+", "0", "?", "ArrowLeft"} <= set(named)
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    watched.ready("tumor")
    page.keyboard.press("o")
    assert not page.locator("#show-overlay").is_checked()
    page.keyboard.press("o")
    page.keyboard.press("t")
    assert page.locator("#bar-name").inner_text() == "teacher evidence probability"
    page.keyboard.press("]")
    page.keyboard.press(".")
    assert page.locator("#opacity").input_value() == "60"
    assert page.locator("#threshold-text").inner_text() == "0.025"
    zoom = "viewer.stage.view.zoom"
    home = page.evaluate(zoom)
    page.keyboard.press("+")
    assert page.evaluate(zoom) == pytest.approx(1.5 * home)
    before = page.evaluate("viewer.stage.view.x")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("viewer.stage.view.x") > before
    page.keyboard.press("0")
    assert page.evaluate(zoom) == pytest.approx(home)
    page.keyboard.press("a")
    assert not page.locator("#show-annotations").is_checked()
    page.keyboard.press("k")
    watched.ready("normal")
    page.keyboard.press("/")
    page.keyboard.type("j")  # a letter of the search, not a key
    assert page.locator("#find").input_value() == "j"
    assert page.evaluate("viewer.slide.slide_id") == "normal"
    assert watched.faults == []


def test_the_middle_and_the_highest_tiles_can_be_reached_by_key(watched, viewer_url) -> None:
    page = watched.open(viewer_url, "normal")
    scores = scores_of(page)
    values = np.array([-1 if value is None else value for value in scores["mappings"][0]["values"]])
    page.keyboard.press("x")
    highest = int(values.argmax())
    page.wait_for_selector(f"dl[data-tile='{highest}']")
    assert page.locator("#highest button").first.get_attribute("data-tile") == str(highest)
    view = page.evaluate("viewer.stage.view")
    assert (view["x"], view["y"]) == pytest.approx((scores["x"][highest] + 64, scores["y"][highest] + 64))
    page.keyboard.press("i")
    assert f"student probability {values[highest]:.4g}" in page.locator("#announce").inner_text()


def test_a_link_leads_back_to_the_same_view(watched, watch, viewer_url, context) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = watched.open(f"{viewer_url}#slide=tumor", "tumor")
    page.locator("#mapping").select_option("teacher_evidence")
    page.evaluate("viewer.stage.look({x: 400, y: 380, zoom: 1.9})")
    page.locator("#opacity").fill("80")
    page.locator("#threshold").fill("300")
    link = link_of(page, map="teacher_evidence", opacity="0.8", threshold="0.3", zoom="1.9", x="400")
    assert (link["slide"], link["model"], link["y"]) == ("tumor", WENO.key, "380")
    page.locator("#copy").click()
    page.wait_for_function("() => document.getElementById('announce').textContent === 'Link copied.'")
    assert page.evaluate("navigator.clipboard.readText()") == page.url
    watched.ready("tumor")
    first = watched.pixels()
    second = watch()
    second.open(page.url, "tumor")
    assert (second.pixels() == first).all()
    assert second.faults == []


def test_the_address_follows_the_view(watched, viewer_url) -> None:
    page = watched.open(viewer_url, "normal")
    box = page.locator("#slide").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 100, middle[1] - 50, steps=4)
    page.mouse.up()
    moved = page.evaluate("viewer.stage.view")
    link = link_of(page, x=json.dumps(float(f"{moved['x']:.8g}")).removesuffix(".0"))
    assert float(link["x"]) == pytest.approx(512 + 100 / moved["zoom"], rel=1e-3)
    page.evaluate("location.hash = '#slide=bounds&x=100&y=120&zoom=2&map=attention_percentile'")
    watched.ready("bounds")
    view = page.evaluate("viewer.stage.view")
    assert (view["x"], view["y"], view["zoom"]) == pytest.approx((100, 120, 2))
    assert page.locator("#bar-name").inner_text() == "attention percentile"

"""The viewer and text that would be markup, strangers without a token, and a server that fails."""

import json

import pytest
from drawn_view import HOSTILE, served

pytestmark = pytest.mark.browser


IMAGE = "<svg xmlns='http://www.w3.org/2000/svg'/>"


def json_answer(route, value):
    route.fulfill(status=200, content_type="application/json", body=json.dumps(value))


def test_hostile_text_is_shown_and_runs_nothing(watched, viewer_url, screenshots) -> None:
    page = watched.open(viewer_url, "normal")
    page.locator("#rows button").nth(5).click()
    watched.ready(HOSTILE)
    assert page.evaluate("document.getElementById('slide-id').textContent") == HOSTILE
    assert HOSTILE in page.evaluate("document.querySelector('#rows [aria-current]').textContent")
    assert HOSTILE in page.evaluate("document.getElementById('verdict').textContent")
    assert page.evaluate("document.title").startswith(HOSTILE[:12])
    assert (
        page.locator("#verdict .chip.wrong").count() == 0
    )  # a label that is no class is neither right nor wrong
    assert page.locator("#rows img, #rows script, #verdict img, #verdict script").count() == 0
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # long words break
    page.screenshot(path=screenshots / "viewer_hostile.png")
    assert watched.faults == []


def test_a_link_holds_a_hostile_id_and_leads_back(watched, watch, viewer_url) -> None:
    page = watched.open(viewer_url, "normal")
    page.locator("#rows button").nth(5).click()
    watched.ready(HOSTILE)
    page.wait_for_function("() => location.hash.length > 300")
    second = watch()
    second.open(page.url, HOSTILE)
    assert second.page.evaluate("viewer.slide.index") == 5
    assert second.page.evaluate("window.hacked") is None
    assert second.faults == []


def test_names_and_errors_from_the_server_are_text_too(watched, viewer_url) -> None:
    page = watched.page
    mapping = {"key": HOSTILE, "name": HOSTILE, "meaning": HOSTILE, "vmin": 0, "vmax": 1, "values": [0.5]}
    scores = {"tiles": 1, "edge": 512, "x": [200], "y": [100], "mappings": [mapping], "tile_label": None}
    drawing = {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 0]]]}
    feature = {"type": "Feature", "geometry": drawing, "properties": {"classification": {"name": HOSTILE}}}
    page.route("**/scores?*", lambda route: json_answer(route, scores))
    page.route("**/annotations", lambda route: json_answer(route, {"features": [feature]}))
    watched.open(f"{viewer_url}#slide=tumor", "tumor")
    page.wait_for_function("() => document.getElementById('annotation-names').textContent !== ''")
    for name in ("bar-name", "meaning", "mapping", "annotation-names"):
        assert page.evaluate(f"document.getElementById('{name}').textContent") == HOSTILE
    page.keyboard.press("i")
    assert HOSTILE in page.evaluate("document.getElementById('tile').textContent")
    assert page.evaluate("window.hacked") is None
    assert watched.faults == []


def test_a_failing_server_is_told_in_its_own_words(watched, viewer_url) -> None:
    page = watched.page
    page.route("**/scores?*", lambda route: route.fulfill(status=409, body=HOSTILE))
    page.route("**/annotations", lambda route: route.fulfill(status=409, body="annotation.xml: no outline"))
    watched.open(f"{viewer_url}#slide=tumor", "tumor")
    told = page.evaluate("document.getElementById('no-scores').textContent")
    assert told == f"Tile scores cannot be shown: {HOSTILE.strip()}"
    page.wait_for_function("() => document.getElementById('annotation-names').textContent !== ''")
    assert page.locator("#annotation-names").inner_text() == "cannot be read: annotation.xml: no outline"
    assert page.evaluate("viewer.stage.isOpen")  # the slide itself is shown
    page.route("**/api/slides/0", lambda route: route.fulfill(status=500, body="the disk is gone"))
    page.keyboard.press("k")
    watched.ready("normal")
    assert page.locator("#message").inner_text() == "This slide cannot be shown: the disk is gone"
    assert page.evaluate("window.hacked") is None


def test_a_run_without_answers_says_so(watched, viewer_url) -> None:
    page = watched.page
    page.route("**/api/slides", lambda route: route.fulfill(status=500, body="no list"))
    page.goto(viewer_url)
    page.wait_for_selector("#message:not([hidden])")
    assert page.locator("#message").inner_text() == "Nothing can be shown: no list"
    page.unroute("**/api/slides")
    page.route("**/api/slides", lambda route: json_answer(route, []))
    page.reload()
    page.wait_for_function(
        "() => document.getElementById('message').textContent === 'This run holds no slides.'"
    )


def test_late_answers_of_a_slide_that_was_left_are_dropped(watched, viewer_url) -> None:
    page, held = watched.page, []
    page.route("**/api/slides/1/scores?*", lambda route: bool(held.append(route)))
    watched.open(viewer_url, "normal")
    page.keyboard.press("j")
    page.wait_for_function("() => viewer.slide.slide_id === 'tumor' && viewer.details !== null")
    for _ in range(1200):
        if held:
            break
        page.wait_for_timeout(100)
    page.keyboard.press("j")
    watched.ready("bounds")
    shown = page.evaluate("viewer.overlay.scores.mappings[0].values")
    with page.expect_response("**/api/slides/1/scores?*") as late:
        held[0].continue_()
    late.value.finished()
    page.wait_for_timeout(200)
    assert page.evaluate("viewer.overlay.scores.mappings[0].values") == shown
    assert page.evaluate("document.documentElement.dataset.ready") == "bounds"


@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong"])
def test_without_the_token_nothing_is_told(watched, viewer_url, query) -> None:
    address = viewer_url.split("?")[0]
    answer = watched.page.goto(address + query)
    assert answer.status == 403
    assert "token is missing or wrong" in watched.page.locator("body").inner_text()
    asked = "fetch('/api/slides').then((answer) => answer.status)"
    assert watched.page.evaluate(asked) == 403


def test_images_of_the_glass_only_where_they_were_asked_for(watched, viewer_url, view_maker) -> None:
    page = watched.open(viewer_url, "normal")
    assert page.locator("#associated").is_hidden()
    with served(view_maker.viewed, show_labels=True) as url:
        details = {"associated": ["label", "macro"]}
        page.route("**/api/slides/0", lambda route: json_answer(route, {**route.fetch().json(), **details}))
        page.route("**/associated/*", lambda route: route.fulfill(content_type="image/svg+xml", body=IMAGE))
        watched.open(url, "normal")
        assert page.locator("#associated figcaption").all_inner_texts() == ["label", "macro"]
        assert "May show patient data" in page.locator("#associated").inner_text()

"""The overlay in a real browser: every color, number and outline at the tile that it belongs to."""

import numpy as np
import pytest
from browser_pages import CENTER, OVERLAY_COLORS, answers, scores_of
from drawn_view import ABMIL, EDGE_PX

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("slide_id", ["normal", "bounds"])
def test_every_tile_has_its_color_at_its_place(watched, viewer_url, slide_id) -> None:
    page = watched.open(f"{viewer_url}#slide={slide_id}", slide_id)
    scores, colormap = scores_of(page), answers(page, "api/run")["colormap"]
    values = scores["mappings"][0]["values"]
    assert values[2] is None
    assert (scores["x"][0], scores["y"][0]) == (0, 0)  # also of a scan whose bounds start elsewhere
    colors = [None if value is None else colormap[min(255, int(value * 256))] for value in values]
    corners = np.column_stack([scores["x"], scores["y"]])
    for inside in (0.02, 0.5, 0.98):  # two pixels of the screen from the edges
        assert page.evaluate(OVERLAY_COLORS, (corners + inside * EDGE_PX).tolist()) == colors


def test_overlay_opacity_and_threshold_change_the_picture(watched, viewer_url) -> None:
    page = watched.open(viewer_url, "normal")
    shown = watched.pixels()
    page.locator("#show-overlay").uncheck()
    bare = watched.pixels()
    page.locator("#opacity").fill("90")
    page.locator("#show-overlay").check()
    opaque = watched.pixels()
    changed = np.abs(shown - bare).mean()
    assert changed > 5
    assert np.abs(opaque - bare).mean() > 1.4 * changed  # 0.9 against 0.55 of the same difference
    page.locator("#threshold").fill("600")
    values = [value for value in scores_of(page)["mappings"][0]["values"] if value is not None]
    kept = sum(value >= 0.6 for value in values)
    assert page.evaluate("viewer.stage.drawn") == kept
    assert page.locator("#drawn").inner_text() == f"{kept} of 48 tiles shown"
    assert np.abs(watched.pixels() - bare).mean() < np.abs(opaque - bare).mean()
    page.locator("#threshold").fill("0")
    assert (watched.pixels() == opaque).all()
    assert watched.faults == []


def test_switching_mapping_and_model(watched, viewer_url) -> None:
    page = watched.open(viewer_url, "normal")
    bar, seen = page.locator("#bar-name"), []
    for _ in range(5):
        seen.append((bar.inner_text(), page.evaluate(OVERLAY_COLORS, [[64, 64]])[0]))
        page.keyboard.press("m")
    named = [name for name, _ in seen]
    assert named == [mapping["name"] for mapping in scores_of(page)["mappings"]]
    assert len({color for _, color in seen}) > 2
    assert bar.inner_text() == "student probability"
    page.locator("#teacher").click()
    assert bar.inner_text() == "teacher evidence probability"
    assert page.locator("#teacher").get_attribute("aria-pressed") == "true"
    assert "from 0 to 1" in page.locator("#ramp").get_attribute("aria-label")
    page.locator("#model").select_option(ABMIL.key)
    page.wait_for_function("() => document.getElementById('student').disabled")
    assert page.locator("[data-role=student]").count() == 0
    assert page.locator("[data-role=teacher] data").first.get_attribute("value") == "0.3"
    assert watched.faults == []


def test_hover_tells_the_numbers_of_the_api(watched, viewer_url) -> None:
    page = watched.open(f"{viewer_url}#slide=tumor", "tumor")
    scores = scores_of(page)
    for tile in (3, 2, 20):
        place = page.evaluate(CENTER, [scores["x"][tile] + 64, scores["y"][tile] + 64])
        page.mouse.move(*place)
        page.wait_for_selector(f"dl[data-tile='{tile}']")
        for mapping in scores["mappings"]:
            told = page.locator(f"#tile [data-key={mapping['key']}] data")
            value = mapping["values"][tile]
            assert (float(told.get_attribute("value")) if told.count() else None) == value
        label = {3: "annotated"}.get(tile, "outside annotations")
        assert page.locator("#tile [data-key=tile_label]").inner_text() == label
        x, y = (round(scores[axis][tile] * 0.5) for axis in "xy")
        assert page.locator("#tile [data-key=place]").inner_text() == f"x {x}, y {y} \u00b5m"
        assert page.locator("#tip .chosen").inner_text().startswith("student probability")
    page.mouse.move(2, 2)
    assert page.locator("#tip").is_hidden()


def test_scale_bar_measures_the_slide(watched, viewer_url) -> None:
    page = watched.open(viewer_url, "normal")
    for zoom in (0.9, 1.7):
        page.evaluate(f"viewer.stage.look({{x: 500, y: 380, zoom: {zoom}}})")
        page.wait_for_selector(f"#magnification:text-is('{0.5 / zoom:.3g} \u00b5m/px')")
        length, unit = page.locator("#scale-text").inner_text().split()
        assert (float(length), unit) == ({0.9: 50, 1.7: 20}[zoom], "\u00b5m")  # at most 150 pixels
        width = page.locator("#scale-bar").bounding_box()["width"]
        assert width == pytest.approx(float(length) / 0.5 * zoom, abs=0.6)


def test_annotations_are_outlined_where_they_lie(watched, viewer_url, view_maker) -> None:
    page = watched.open(f"{viewer_url}#slide=bounds", "bounds")
    page.wait_for_function("() => viewer.stage.annotations.length === 1")
    page.locator("#show-overlay").uncheck()
    outlined = watched.pixels()
    page.locator("#show-annotations").uncheck()
    changed = np.abs(watched.pixels() - outlined).sum(axis=2) > 60
    rows, columns = np.nonzero(changed)
    slide = view_maker.drawn["bounds"]
    west, north, east, south = slide.tumor.bounds
    box = page.locator("#slide").bounding_box()
    found = (columns.min(), rows.min()), (columns.max(), rows.max())
    for corner, place in zip(((west, north), (east, south)), found, strict=True):
        x, y = page.evaluate(CENTER, [corner[0] - slide.origin[0], corner[1] - slide.origin[1]])
        assert (x - box["x"], y - box["y"]) == pytest.approx(place, abs=3)
    assert page.locator("#annotation-names").inner_text() == "Tumor"

"""The report and the comparison of runs in a real browser: from a file, alone, every text hostile."""

import re
from pathlib import Path

import pytest
from compared_runs import HOSTILE_NAMES, compared_page
from hostile_texts import PAYLOADS
from report_runs import hostile_page

from wsi_kd.core.provenance import RESEARCH_ONLY

pytestmark = pytest.mark.browser

SCROLLS = "document.documentElement.scrollWidth > innerWidth"
EMPTY = """[...document.querySelectorAll("main section")]
  .filter((section) => section.children.length < 2 || section.getBoundingClientRect().height < 20)
  .map((section) => section.id)"""
NUMBERS = """(table, column) =>
  [...table.tBodies[0].rows].map((row) => parseFloat(row.cells[column].dataset.number))"""
NUMERIC = """(table) => [...table.tHead.rows[0].cells].findIndex((_, column) => {
  const values = [...table.tBodies[0].rows].map((row) => row.cells[column].dataset.number);
  return !values.includes(undefined) && new Set(values).size > 2;
})"""
"""The first column that holds a number in every row, three or more different ones; -1: none."""
UNFOLD = "document.querySelectorAll('details').forEach((part) => { part.open = true; })"


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """Each page once; every text in them that comes from outside is hostile."""
    folder = tmp_path_factory.mktemp("pages")
    return {"report": hostile_page(folder), "comparison": compared_page(folder / "runs")}


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_a_page_opens_from_disk_alone_and_runs_nothing_foreign(watched, pages, screenshots, name) -> None:
    page = watched.page
    page.goto(pages[name].as_uri())
    page.screenshot(path=screenshots / f"{name}.png", full_page=True)
    assert watched.faults == []  # no error, no dialog
    assert [url for url in watched.requests if not url.startswith(("data:", pages[name].as_uri()))] == []
    assert page.title() != "taken"
    assert not page.evaluate(SCROLLS)
    assert page.locator(".banner").inner_text() == RESEARCH_ONLY
    assert page.evaluate(EMPTY) == []
    assert page.locator("script").count() == 1  # the page's own


@pytest.mark.parametrize(("name", "texts"), [("report", PAYLOADS), ("comparison", HOSTILE_NAMES)])
def test_hostile_texts_are_shown_as_text(watched, pages, name, texts) -> None:
    watched.page.goto(pages[name].as_uri())
    shown = watched.page.evaluate("document.body.textContent")
    visible = [piece for text in texts for piece in re.split(r"[^ -~\w]", text) if piece]
    assert len(visible) >= len(texts) - 1
    assert [piece for piece in visible if piece not in shown] == []
    assert "\u202e" not in shown  # what turns the direction of writing is named, not obeyed


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_a_click_on_a_heading_sorts_by_number(watched, pages, name) -> None:
    page = watched.page
    page.goto(pages[name].as_uri())
    page.evaluate(UNFOLD)
    table, column = next(
        (table, column) for table in page.locator("table").all() if (column := table.evaluate(NUMERIC)) >= 0
    )
    before = table.evaluate(NUMBERS, column)
    heading = table.locator("thead th").nth(column)
    for told, down in (("ascending", False), ("descending", True)):
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == told
        assert table.evaluate(NUMBERS, column) == sorted(before, reverse=down)


def test_long_tables_of_a_report_can_be_searched(watched, pages) -> None:
    page = watched.page
    page.goto(pages["report"].as_uri())
    page.evaluate(UNFOLD)
    search = page.locator("label.search", has=page.locator("visible=true")).first
    rows = search.locator("xpath=following-sibling::*[1]").locator("tbody tr")
    everything = rows.count()
    wanted = rows.first.locator("td").first.inner_text()
    search.locator("input").fill(wanted)
    shown = [text for text in rows.locator("visible=true").all_inner_texts() if wanted not in text]
    assert shown == []
    assert 0 < rows.locator("visible=true").count() < everything


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_all_sections_are_printed(watched, pages, name) -> None:
    page = watched.page
    page.goto(pages[name].as_uri())
    headings = page.locator("main h2").all_inner_texts()
    assert len(headings) > 3
    printed = page.pdf(outline=True, tagged=True)
    assert printed.startswith(b"%PDF-")
    assert {heading for heading in headings if heading not in outline(printed)} == set()
    assert printed.count(b"/Type /Page\n") > 1


def outline(pdf: bytes) -> set[str]:
    """Titles of a PDF's bookmarks, which Chromium makes of the headings that it prints."""
    found = re.findall(rb"/Title\s*(?:\(((?:[^()\\]|\\.)*)\)|<([0-9A-Fa-f]+)>)", pdf)
    return {plain.decode("latin-1") if plain else unicode_title(digits) for plain, digits in found}


def unicode_title(digits: bytes) -> str:
    """Text of a PDF's hexadecimal string with its byte order mark."""
    return bytes.fromhex(digits.decode()).decode("utf-16")

"""G11: whatever slides, classes, sites, notes or models are called, a page keeps its own tags alone."""

from functools import cache

import pytest
from hostile_pages import EVERY, KINDS, Census, page_with

AT_ONCE = (" ".join(EVERY),)
"""One text of them all, in every run of the tests; one page each behind the marker."""
PAGES = [pytest.param("report", marks=pytest.mark.reliability), *KINDS[1:]]
"""The report takes seconds a page; test_render looks at it in every run."""


@cache
def clean(kind: str) -> Census:
    return Census(page_with(kind, " plain"))


def faults_of(kind: str, payload: str) -> list[str]:
    """What a hostile page has that a clean one has not."""
    page = page_with(kind, payload)
    page.encode("utf-8")  # nothing that no file can hold
    census, own = Census(page), clean(kind)
    tags = [name for name in census.names | own.names if census.names[name] != own.names[name]]
    charts = sorted(census.chart_names - own.chart_names)
    return [*tags, *charts, *census.handlers, *census.fetched]


def test_there_are_forty_payloads() -> None:
    assert len(set(EVERY)) == len(EVERY) >= 40


@pytest.mark.parametrize("kind", PAGES)
def test_a_clean_page_runs_its_own_script_alone(kind: str) -> None:
    census = clean(kind)
    assert census.names["script"] == 1
    assert (census.handlers, census.fetched) == ([], [])


@pytest.mark.parametrize("kind", PAGES)
@pytest.mark.parametrize("payloads", [AT_ONCE, pytest.param(EVERY, marks=pytest.mark.reliability)], ids=len)
def test_no_text_becomes_markup(record_property, kind: str, payloads: tuple[str, ...]) -> None:
    faults = {payload: found for payload in payloads if (found := faults_of(kind, payload))}
    assert faults == {}
    told = f"{len(EVERY)} payloads on {len(payloads)} pages"
    record_property("figure", f"G11: {kind} page, {told}: 0 tags, handlers or loads of theirs")


@pytest.mark.parametrize("kind", KINDS[1:])
def test_the_census_sees_what_is_not_escaped(kind: str) -> None:
    """The same pages with the payload put in as it is."""
    page = page_with(kind, " plain")
    for raw in ("<script>1</script>", "<b onclick=x>", "<img src=//evil.example>", "<!-- x -->"):
        census, own = Census(page.replace(" plain", raw, 1)), Census(page)
        assert census.names != own.names or not census.chart_names <= own.chart_names or census.handlers

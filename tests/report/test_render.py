"""The page as a browser would parse it: hostile text stays text, nothing is fetched, equal runs are equal."""

import base64
import hashlib
from collections import Counter
from functools import cache, partial
from html.parser import HTMLParser

import numpy as np
import pytest
from hostile_texts import PAYLOADS, hostile
from report_runs import RunMaker, hostile_page

from wsi_kd.report.build import build_page
from wsi_kd.report.figures import ScoreGroup, histogram_chart
from wsi_kd.report.page import (
    Card,
    Cell,
    Chart,
    Column,
    Gallery,
    Listing,
    Note,
    Page,
    Picture,
    Section,
    Strip,
    Table,
)
from wsi_kd.report.render import render_page


class Census(HTMLParser):
    """Counts tags and attribute names outside charts and lists those inside; keeps ids, values and text."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.names, self.chart_names, self.ids = Counter(), set(), Counter()
        self.values, self.text = [], []
        self.depth = 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        found = [tag, *(f"{tag}[{name}]" for name, _ in attrs)]
        if self.depth:
            self.chart_names.update(found)
        else:
            self.names.update(found)
        self.depth += tag == "svg"
        self.values += [(name, value or "") for name, value in attrs]
        self.ids.update(value for name, value in attrs if name == "id")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.depth -= tag == "svg"

    def handle_endtag(self, tag):
        self.depth -= tag == "svg"

    def handle_decl(self, decl):
        self.names[f"!{decl}"] += 1

    def handle_comment(self, data):
        self.names["comment"] += 1

    def handle_data(self, data):
        self.text.append(data)


SMALL = {"recipes": ("weno",), "folds": 1}


@pytest.fixture(scope="module")
def small_record():
    return RunMaker(**SMALL).record()


@pytest.fixture(scope="module")
def clean_page(small_record):
    return render_page(build_page(small_record))


@pytest.fixture(scope="module")
def hostile_census(tmp_path_factory):
    page = hostile_page(tmp_path_factory.mktemp("hostile"))
    return Census(page.read_text(encoding="utf-8"))


def check_harmless(census, clean):
    assert census.names == clean.names
    assert census.chart_names <= clean.chart_names
    assert {name for name, _ in census.values if name.startswith("on")} == set()
    assert census.names["script"] == 1


def test_hostile_text_changes_no_tag_and_no_attribute(hostile_census, clean_page):
    check_harmless(hostile_census, Census(clean_page))


def test_other_hostile_text_is_as_harmless(clean_page):
    record = RunMaker(text=partial(hostile, shift=7), **SMALL).record()
    check_harmless(Census(render_page(build_page(record))), Census(clean_page))


def test_hostile_text_is_shown_as_it_is(hostile_census):
    text = "".join(hostile_census.text)
    places = ("slide_3", "no tissue found", "weno-seed0-fold0", "A run", "tumor", "snakemake", "note")
    shown = [place for place in places if hostile(place).isprintable() and hostile(place) in text]
    assert len(shown) >= 4
    assert set(shown) == {place for place in places if hostile(place).isprintable()}
    assert "x" * 300 in text


@cache
def page_of(text):
    """A page with the same text in every place that a page has."""
    rows = ((Cell(text, note=text, number=1.0),),)
    picture = Picture("data:,", text, text, 1, 1)
    card = Card(text, text, None, ((text, text),), (picture,), text, (Strip(text, (picture,)),))
    svg = histogram_chart("h", [ScoreGroup(text, np.array([0.5]))], score="s", thresholds=[])
    blocks = (
        Table(text, (Column(text),), rows),
        Table(text, (Column(text),), rows, folded=True),
        Chart(svg, text),
        Gallery((card,), heading=text),
        Note(text),
        Listing(text, text),
    )
    return Census(render_page(Page(text, text, ((text, text),), (Section("s", text, blocks),))))


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_every_payload_stays_text_in_every_place(payload):
    assert page_of(payload).names == page_of("plain").names
    assert page_of(payload).chart_names == page_of("plain").chart_names


def test_nothing_is_fetched(clean_page):
    census = Census(clean_page)
    for name, value in census.values:
        if name in {"src", "href", "data", "action", "poster", "srcset", "xlink:href", "background"}:
            assert value.startswith(("#", "data:image/")), (name, value)
        assert "url(" not in value.replace("url(#", ""), (name, value)
    assert "http://" not in clean_page
    assert "https://" not in clean_page
    assert "@import" not in clean_page


def test_links_inside_the_page_lead_somewhere_and_ids_are_unique(clean_page):
    census = Census(clean_page)
    assert max(census.ids.values()) == 1
    for name, value in census.values:
        if name == "href":
            assert value.removeprefix("#") in census.ids
        if name in {"clip-path", "fill"} and value.startswith("url(#"):
            assert value.removeprefix("url(#").removesuffix(")") in census.ids
        if name == "aria-labelledby":
            assert all(part in census.ids for part in value.split())


def test_the_policy_allows_exactly_the_page_s_own_style_and_script(clean_page):
    policy = next(value for name, value in Census(clean_page).values if value.startswith("default-src"))
    for tag in ("style", "script"):
        content = clean_page.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    census = Census(clean_page)
    assert "[style]" not in str(census.names) + str(census.chart_names)


def test_every_image_and_chart_has_a_name(clean_page):
    census = Census(clean_page)
    assert census.names["img"] == census.names["img[alt]"] == 3
    assert census.names["svg"] == census.names["svg[role]"] == census.names["svg[aria-labelledby]"] == 12
    assert {"title", "desc"} <= census.chart_names
    assert all(value for name, value in census.values if name == "alt")


def test_equal_runs_make_equal_pages(clean_page, small_record):
    assert render_page(build_page(small_record)) == clean_page


def test_the_research_only_notice_opens_and_closes_the_page(clean_page, small_record):
    notice = small_record.metrics["research_only"]
    assert clean_page.count(notice) == 2
    assert clean_page.index(notice) < clean_page.index("<h1>")


def tiny(*blocks):
    return render_page(Page("T", "R", (), (Section("s", "S", blocks),)))


def test_tables_carry_their_numbers_for_sorting_and_their_notes():
    rows = ((Cell("b", note="why"), Cell("1,000", number=1000.0)), (Cell("a"), Cell("n/a")))
    html = tiny(Table("Caption", (Column("Name"), Column("Count", numeric=True)), rows))
    assert '<td class="number" data-number="1000.0">1,000</td>' in html
    assert "<td>b<small>why</small></td>" in html
    assert '<td class="number">n/a</td>' in html


def test_folded_blocks_can_be_opened_without_script():
    html = tiny(
        Table("Long", (Column("Name"),), ((Cell("a"),),), folded=True), Chart("<svg/>", "More", folded=True)
    )
    assert "<details><summary>Long (1 rows)</summary>" in html
    assert "<details><summary>More</summary>" in html


def test_listings_keep_their_lines_and_control_characters_become_visible():
    html = tiny(Listing("Commands", "one\n\ttwo\x07"), Note("\ud800"), Note("\u202etxt.exe"))
    assert "<pre>one\n\ttwo\N{REPLACEMENT CHARACTER}</pre>" in html
    assert "<p>\N{REPLACEMENT CHARACTER}</p>" in html
    assert "<p>\N{REPLACEMENT CHARACTER}txt.exe</p>" in html
    html.encode("utf-8")

"""The page as a browser would parse it: hostile text stays text, nothing is fetched, equal runs are equal."""

import base64
import hashlib
from collections import Counter
from html.parser import HTMLParser
from zlib import crc32

import numpy as np
import pytest
from report_runs import RunMaker

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
    Table,
)
from wsi_kd.report.render import render_page

PAYLOADS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "</script><script>alert(1)</script>",
    "</style><style>*{background:url(http://evil.example/x)}",
    "</title><h1>x</h1>",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "\u2028\u2029",
    "<!-- --> <![CDATA[ ]]>",
    "{{7*7}}{% raw %}{# #}",
    "expression(alert(1)) url(//evil.example)",
    "<foreignObject><iframe src=//evil.example>",
    "\u202etxt.exe\u200b",
    "a\x00b\x1b[31m\ud800",
    "x" * 300,
    "&lt;b&gt; &amp;amp;",
    "a onmouseover=alert(1) style=x",
    "组织 \N{MICROSCOPE} ñ $\\frac{1}{2}$",
]


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


@pytest.fixture(scope="module")
def clean_page(clean_record):
    return render_page(build_page(clean_record))


@pytest.mark.parametrize("shift", [0, 7, 13])
def test_hostile_text_changes_no_tag_and_no_attribute(shift, clean_page):
    def hostile(plain):
        return plain + PAYLOADS[(crc32(plain.encode()) + shift) % len(PAYLOADS)]

    census, clean = Census(render_page(build_page(RunMaker(text=hostile).record()))), Census(clean_page)
    assert census.names == clean.names
    assert census.chart_names <= clean.chart_names
    assert {name for name, _ in census.values if name.startswith("on")} == set()


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_every_payload_stays_text_in_every_place(payload):
    def page(text):
        rows = ((Cell(text, note=text, number=1.0),),)
        card = Card(text, text, True, ((text, text),), (Picture("data:,", text, text, 1, 1),), text)
        group = ScoreGroup(text, np.array([0.5]))
        svg = histogram_chart("h", [group], score="s", thresholds=[])
        blocks = (
            Table(text, (Column(text),), rows),
            Table(text, (Column(text),), rows, folded=True),
            Chart(svg, text),
            Gallery((card,)),
            Note(text),
            Listing(text, text),
        )
        return Census(render_page(Page(text, text, ((text, text),), (Section("s", text, blocks),))))

    assert page(payload).names == page("plain").names
    assert page(payload).chart_names == page("plain").chart_names


def test_hostile_text_is_shown_as_it_is():
    record = RunMaker(text=lambda plain: f"{plain}<b>&amp;").record()
    text = "".join(Census(render_page(build_page(record))).text)
    assert "slide_3<b>&amp;" in text
    assert "no tissue found<b>&amp;" in text


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
    assert census.names["img"] == census.names["img[alt]"] == 1
    assert census.names["svg"] == census.names["svg[role]"] == census.names["svg[aria-labelledby]"] == 8
    assert {"title", "desc"} <= census.chart_names
    assert all(value for name, value in census.values if name == "alt")


def test_equal_runs_make_equal_pages(clean_page):
    assert render_page(build_page(RunMaker().record())) == clean_page


def test_the_research_only_notice_opens_and_closes_the_page(clean_page, clean_record):
    notice = clean_record.metrics["research_only"]
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

import re
from html.parser import HTMLParser

import pytest

from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.report.qc_page import render_qc
from wsi_kd.report.qc_record import (
    QC_COLUMNS,
    QcSlide,
    QcThumbnail,
    TileCounts,
    qc_row,
    slide_facts_of,
    tile_counts_of,
)
from wsi_kd.slides.facts import SlideFacts

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>\u202e'
FACTS = SlideFacts("openslide/aperio", "aperio", "ScanScope AT2", "20")


def slide_of(number=0, *, slide_id=None, status=SlideStatus.OK, reason="", counts=None, **changed):
    name = slide_id or f"slide_{number:04d}"
    row = StatusRow(name, status, reason, "embed", 100 + number, 12.5 + number, 0.25, "vendor", 1.0)
    thumbnail = QcThumbnail(f"thumbnails/{name}.jpg", f"thumbnails/{name}.svg", 512, 384)
    whole = QcSlide(row, 40_000, 30_000, FACTS, "thumbnail", {"pen": 0.5, "fold": 0.0}, counts, thumbnail)
    return whole._replace(**changed)


class Cards(HTMLParser):
    """What a browser finds: cards with their facts, images, and every element that runs or fetches."""

    def __init__(self):
        super().__init__()
        self.cards, self.images, self.scripts, self.policy, self.options = [], [], 0, "", []
        self._key = None

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag == "article":
            self.cards.append({"status": values["data-status"], "class": values["class"]})
        elif tag == "img":
            self.images.append(values)
        elif tag == "script":
            self.scripts += 1
        elif tag == "meta" and values.get("http-equiv"):
            self.policy = values["content"]
        elif tag == "option":
            self.options.append(values["value"])
        self._key = values.get("data-key") if tag == "dd" else None
        if self._key:
            self.cards[-1][f"{self._key}_number"] = values.get("data-number")

    def handle_data(self, data):
        if self._key:
            self.cards[-1][self._key] = data
            self._key = None


def parsed(slides, **changed):
    text = render_qc(slides, title="cohort", research_only="Research only.", **changed)
    found = Cards()
    found.feed(text)
    return text, found


def test_a_card_tells_what_is_known():
    counts = TileCounts(200, blurred=20, pen=1, background=100)
    text, found = parsed([slide_of(counts=counts)])
    (card,) = found.cards
    assert (card["tissue"], card["tissue_number"]) == ("12.50", "12.5")
    assert (card["blurred_tiles"], card["pen_tiles"], card["empty_tiles"]) == ("10%", "0%", "50%")
    assert float(card["pen_tiles_number"]) == pytest.approx(0.005)
    assert (card["size"], card["scanner"], card["mpp"]) == ("40,000 x 30,000", "aperio ScanScope AT2", "0.25")
    assert (card["pen"], card["fold"], card["objective_number"]) == ("0.50", "0.00", "20.0")
    assert text.count("Research only.") == 2
    assert "Blurred tiles</dt><dd>10.0%" in text


def test_what_is_not_known_is_on_no_card_and_what_nobody_knows_cannot_be_sorted_by():
    unknown = slide_of(facts=SlideFacts("tiff/plain", "", "", ""), excluded_mm2={"pen": 1.0})
    _, found = parsed([unknown, unknown])
    assert not {"objective", "scanner", "fold", "blurred_tiles"} & (set(found.cards[0]) | set(found.options))
    _, found = parsed([unknown, slide_of()])
    assert "objective" not in found.cards[0]
    assert found.cards[1]["objective"] == "20"
    assert {"slide", "status", "objective", "fold", "pen"} <= set(found.options)


def test_images_are_files_beside_the_page_fetched_when_seen():
    _, found = parsed([slide_of(slide_id="a b#1%?é")])
    jpeg, over = found.images
    assert jpeg["src"] == "thumbnails/a%20b%231%25%3F%C3%A9.jpg"
    assert over["src"].endswith(".svg")
    assert {image["loading"] for image in found.images} == {"lazy"}
    assert (jpeg["width"], jpeg["height"]) == ("512", "384")


def test_hostile_text_is_shown_and_never_runs():
    facts = SlideFacts(*[HOSTILE] * 4)
    hostile = slide_of(slide_id=HOSTILE, status=SlideStatus.EMPTY, reason=HOSTILE, facts=facts)
    text, found = parsed([hostile, hostile._replace(thumbnail=None, note=HOSTILE)])
    assert found.scripts == 1
    assert len(found.images) == 2
    assert not any("onerror" in image for image in found.images)
    assert "\u202e" not in text
    assert found.policy.startswith("default-src 'none'; img-src 'self' file: data:; style-src 'sha256-")
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]{44}'", found.policy)
    assert "unsafe" not in found.policy
    assert "style=" not in text


def test_statuses_and_scanners_are_counted():
    slides = [slide_of(n) for n in range(3)]
    slides.append(slide_of(3, status=SlideStatus.EMPTY, reason="glass only", thumbnail=None, note="why not"))
    text, found = parsed(slides, missing=7)
    assert [card["status"] for card in found.cards] == ["ok", "ok", "ok", "empty"]
    assert ["unused" in card["class"] for card in found.cards] == [False, False, False, True]
    assert '<td>no tissue found</td><td class="number">1</td>' in text
    assert '<td>aperio ScanScope AT2</td><td>0.25</td><td class="number">4</td>' in text
    assert "glass only" in text
    assert "No thumbnail: why not" in text
    assert "Not looked at yet</dt><dd>7" in text
    assert "<dt>Tissue (mm²)</dt><dd>40.5</dd>" in text  # of the three that are used: 12.5 + 13.5 + 14.5


def test_a_slide_adds_little_to_the_page():
    counts = TileCounts(200, 20, 1, 100)
    slides = [slide_of(number, counts=counts) for number in range(200)]
    page, longer_page = (parsed(slides[:count])[0] for count in (100, 200))
    assert (len(longer_page) - len(page)) / 100 < 1600
    assert len(page) - 100 * 1600 < 16_000


def test_no_slides_are_a_page_too():
    _, found = parsed([])
    assert (found.cards, found.scripts) == ([], 1)


def test_equal_slides_give_equal_pages():
    assert parsed([slide_of()])[0] == parsed([slide_of()])[0]


def test_a_line_of_the_table_holds_what_the_card_does():
    line = dict(zip(QC_COLUMNS, qc_row(slide_of(counts=TileCounts(200, 20, 1, 100))), strict=True))
    assert (line["measured_tiles"], line["blurred_tiles"], line["background_tiles"]) == (200, 20, 100)
    assert (line["pen_mm2"], line["fold_mm2"], line["scanner"]) == (0.5, 0.0, "ScanScope AT2")
    bare = slide_of(excluded_mm2={}, thumbnail=None)
    bare = bare._replace(status=bare.status._replace(slide_mpp=0.0))
    line = dict(zip(QC_COLUMNS, qc_row(bare), strict=True))
    assert {line[key] for key in ("pen_mm2", "measured_tiles", "slide_mpp", "mpp_source", "thumbnail")} == {
        ""
    }


def test_counts_of_a_header_join_kept_and_left_out_tiles():
    kept = {"tiles": 80, "blurred": 3, "pen": 0, "background": 1}
    header = {"quality_counts": kept, "dropped_blurred": 20, "dropped_pen": 5, "dropped_background": 0}
    assert tile_counts_of(header) == TileCounts(105, blurred=23, pen=5, background=1)
    assert tile_counts_of({}) is None
    assert tile_counts_of({"quality_counts": {}}) is None
    assert slide_facts_of({"facts": {"vendor": "aperio", "patient": "Doe"}}) == SlideFacts(
        "", "aperio", "", ""
    )

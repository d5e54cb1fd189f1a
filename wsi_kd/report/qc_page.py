"""The quality page: a card a slide with its thumbnail, sorted and filtered in the browser."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote

from wsi_kd.core.records import SlideStatus
from wsi_kd.features.quality_counts import NOTABLE
from wsi_kd.report.cohort import STATUS_MEANINGS
from wsi_kd.report.qc_outlines import LINE_COLORS
from wsi_kd.report.qc_record import MARKS, QcSlide, scanner_name
from wsi_kd.report.render import render_template

IMAGES = "'self' file: data:"
"""Thumbnails lie beside the page, which is opened from a disk or a server; nothing else is fetched."""
UNKNOWN = "\N{EN DASH}"


class QcFact(NamedTuple):
    """One entry of a card; the page sorts by its `number`, or by its text where that is None."""

    key: str
    label: str
    text: str
    number: float | None = None


class QcCard(NamedTuple):
    """One slide of the page."""

    slide: QcSlide
    facts: tuple[QcFact, ...]
    """What is known of it."""
    jpeg: str
    outlines: str


class CountedSlides(NamedTuple):
    """One line of a small table."""

    words: tuple[str, ...]
    slides: int


def render_qc(slides: Sequence[QcSlide], *, title: str, research_only: str, missing: int = 0) -> str:
    """Return the page as HTML; equal slides give equal text.

    Args:
        slides: in the order of the manifest.
        title: of the run.
        research_only: the banner.
        missing: slides that no step has seen yet.
    """
    cards = [_card(slide) for slide in slides]
    return render_template(
        "qc.html.j2",
        styles=("report.css", "qc.css"),
        script="qc.js",
        images=IMAGES,
        title=title,
        research_only=research_only,
        facts=_summary(slides, missing),
        statuses=_statuses(slides),
        scanners=_scanners(slides),
        keys=_keys(cards),
        cards=cards,
        legend=tuple(LINE_COLORS.items()),
        limits=NOTABLE,
    )


def _card(slide: QcSlide) -> QcCard:
    thumbnail = slide.thumbnail
    jpeg, outlines = ("", "") if thumbnail is None else (quote(thumbnail.jpeg), quote(thumbnail.outlines))
    return QcCard(slide, tuple(fact for fact in _facts(slide) if fact.text != UNKNOWN), jpeg, outlines)


def _keys(cards: Sequence[QcCard]) -> dict[str, str]:
    """Return key and label of every fact that some card tells: what the page sorts by."""
    longest = sorted(cards, key=lambda card: len(card.facts), reverse=True)
    return {fact.key: fact.label for card in longest for fact in card.facts}


def _facts(slide: QcSlide) -> tuple[QcFact, ...]:
    status, told, counts = slide.status, slide.facts, slide.counts
    known = status.slide_mpp > 0
    width, height = slide.width_level0_px, slide.height_level0_px
    shares = (None,) * 3 if counts is None else tuple(part / counts.tiles for part in counts[1:])
    return (
        QcFact("tissue", "Tissue (mm²)", f"{status.tissue_mm2:.2f}", status.tissue_mm2),
        QcFact("tiles", "Tiles", f"{status.tiles:,}", float(status.tiles)),
        QcFact("mpp", "um/px", f"{status.slide_mpp:.4g}" if known else UNKNOWN, _known(status.slide_mpp)),
        QcFact("source", "um/px from", status.mpp_source if known else UNKNOWN),
        QcFact("scanner", "Scanner", _scanner(slide)),
        QcFact("format", "Read as", told.format or UNKNOWN),
        QcFact("objective", "Objective", told.objective or UNKNOWN, _number(told.objective)),
        QcFact(
            "size",
            "Size (px)",
            f"{width:,} x {height:,}" if width else UNKNOWN,
            _known(float(width * height)),
        ),
        QcFact("mask", "Mask from", slide.mask_source or UNKNOWN),
        *(_area(slide, name) for name in MARKS),
        *(
            QcFact(key, label, UNKNOWN if share is None else f"{share:.0%}", share)
            for key, label, share in zip(
                ("blurred_tiles", "pen_tiles", "empty_tiles"),
                ("Blurred tiles", "Tiles with pen", "Empty tiles"),
                shares,
                strict=True,
            )
        ),
    )


def _area(slide: QcSlide, name: str) -> QcFact:
    area_mm2 = slide.excluded_mm2.get(name)
    text = UNKNOWN if area_mm2 is None else f"{area_mm2:.2f}"
    return QcFact(name, f"{name.capitalize()} (mm²)", text, area_mm2)


def _scanner(slide: QcSlide) -> str:
    return scanner_name(slide.facts.vendor, slide.facts.scanner) or UNKNOWN


def _known(value: float) -> float | None:
    return float(value) if value > 0 else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _summary(slides: Sequence[QcSlide], missing: int) -> tuple[tuple[str, str], ...]:
    used = [slide for slide in slides if slide.is_used]
    counts = [slide.counts for slide in slides if slide.counts is not None]
    measured = sum(part.tiles for part in counts)
    facts = [
        ("Slides", f"{len(slides):,}"),
        ("Usable", f"{len(used):,}"),
        ("Tissue (mm²)", f"{sum(slide.status.tissue_mm2 for slide in used):,.1f}"),
        ("Tiles", f"{sum(slide.status.tiles for slide in used):,}"),
    ]
    if measured:
        blurred = sum(part.blurred for part in counts) / measured
        facts.append(("Blurred tiles", f"{blurred:.1%}"))
    if missing:
        facts.append(("Not looked at yet", f"{missing:,}"))
    return tuple(facts)


def _statuses(slides: Sequence[QcSlide]) -> tuple[CountedSlides, ...]:
    found = Counter(slide.status.status for slide in slides)
    return tuple(
        CountedSlides((str(status), STATUS_MEANINGS[status]), found[status])
        for status in SlideStatus
        if found[status]
    )


def _scanners(slides: Sequence[QcSlide]) -> tuple[CountedSlides, ...]:
    """Count slides by scanner and resolution: a cohort of two is two cohorts to an encoder."""
    found = Counter(
        (_scanner(slide), f"{slide.status.slide_mpp:.3g}" if slide.status.slide_mpp > 0 else UNKNOWN)
        for slide in slides
    )
    return tuple(CountedSlides(words, count) for words, count in sorted(found.items()))

"""What the quality page knows of each slide: plain values from headers, and where its thumbnail lies."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.slides.facts import SlideFacts

MARKS = ("pen", "fold")
"""What a mask may hold besides tissue."""


class QcThumbnail(NamedTuple):
    """A slide's picture and the outlines drawn over it, as files beside the page."""

    jpeg: str
    outlines: str
    width_px: int
    height_px: int


class TileCounts(NamedTuple):
    """Measured tiles; how many of them are notable (`features.quality_counts`), those left out among them."""

    tiles: int
    blurred: int
    pen: int
    background: int


class QcSlide(NamedTuple):
    """One card of the page and one line of qc.csv."""

    status: StatusRow
    width_level0_px: int
    height_level0_px: int
    facts: SlideFacts
    mask_source: str
    excluded_mm2: Mapping[str, float]
    """Area of each of `MARKS` that was looked for."""
    counts: TileCounts | None
    """None where no tile was measured."""
    thumbnail: QcThumbnail | None
    note: str = ""
    """Why there is no thumbnail."""

    @property
    def slide_id(self) -> str:
        """The slide's id."""
        return self.status.slide_id

    @property
    def is_used(self) -> bool:
        """Whether the slide reaches training."""
        return self.status.status == SlideStatus.OK


QC_COLUMNS = (
    "slide_id",
    "status",
    "reason",
    "step",
    "tissue_mm2",
    "pen_mm2",
    "fold_mm2",
    "tiles",
    "measured_tiles",
    "blurred_tiles",
    "pen_tiles",
    "background_tiles",
    "slide_mpp",
    "mpp_source",
    "width_level0_px",
    "height_level0_px",
    "format",
    "vendor",
    "scanner",
    "objective",
    "mask_source",
    "thumbnail",
)
"""Columns of qc.csv; what is not known is empty."""


def slide_facts_of(header: Mapping[str, Any]) -> SlideFacts:
    """Return the facts that a mask's header (or one made from it) holds."""
    told = header.get("facts") or {}
    return SlideFacts(**{name: str(told.get(name, "")) for name in SlideFacts._fields})


def scanner_name(vendor: str, scanner: str) -> str:
    """Name vendor and scanner; many repeat the vendor in the scanner's name.

    >>> scanner_name("aperio", "Aperio AT2"), scanner_name("leica", "SCN400")
    ('Aperio AT2', 'leica SCN400')
    """
    repeated = scanner.casefold().startswith(vendor.casefold())
    return scanner if repeated else f"{vendor} {scanner}".strip()


def tile_counts_of(header: Mapping[str, Any]) -> TileCounts | None:
    """Return the counts that a feature file's header holds, if its tiles were measured."""
    kept = header.get("quality_counts") or {}
    left_out = {name: int(header.get(f"dropped_{name}", 0)) for name in TileCounts._fields[1:]}
    notable = {name: int(kept.get(name, 0)) + count for name, count in left_out.items()}
    tiles = int(kept.get("tiles", 0)) + sum(left_out.values())
    return TileCounts(tiles, **notable) if tiles else None


def qc_row(slide: QcSlide) -> tuple[object, ...]:
    """Return the slide's line of qc.csv, in the order of `QC_COLUMNS`."""
    status, counts, facts = slide.status, slide.counts, slide.facts
    measured: tuple[object, ...] = tuple(counts) if counts is not None else ("",) * len(TileCounts._fields)
    known = status.slide_mpp > 0
    return (
        status.slide_id,
        str(status.status),
        status.reason,
        status.step,
        round(status.tissue_mm2, 6),
        *(round(slide.excluded_mm2[name], 6) if name in slide.excluded_mm2 else "" for name in MARKS),
        status.tiles,
        *measured,
        status.slide_mpp if known else "",
        status.mpp_source if known else "",
        slide.width_level0_px or "",
        slide.height_level0_px or "",
        *facts,
        slide.mask_source,
        "" if slide.thumbnail is None else slide.thumbnail.jpeg,
    )

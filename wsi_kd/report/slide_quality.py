"""What is known of a slide's quality without looking at it: one line of report/slides.csv."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.report.qc_record import MARKS, slide_facts_of, tile_counts_of


class SlideQuality(NamedTuple):
    """One slide; what was not measured or is not known is None or ''. The fields are the columns."""

    slide_id: str
    status: SlideStatus
    reason: str
    step: str
    """The step that failed, else the last one."""
    tissue_mm2: float
    pen_mm2: float | None
    fold_mm2: float | None
    tiles: int
    """Tiles that reach training."""
    tiles_laid: int
    dropped_damaged: int
    dropped_pen: int
    dropped_background: int
    dropped_blurred: int
    measured_tiles: int | None
    """Tiles whose pixels were measured; of them, those beyond `features.quality_counts.NOTABLE`:"""
    blurred_tiles: int | None
    pen_tiles: int | None
    background_tiles: int | None
    slide_mpp: float | None
    mpp_source: str
    format: str
    vendor: str
    scanner: str
    objective: str


def slide_quality(status: StatusRow, header: Mapping[str, Any] | None) -> SlideQuality:
    """Join a slide's final status and the header of its feature file; None where there is no such file."""
    told = header or {}
    counts = tile_counts_of(told)
    known = status.slide_mpp > 0
    pen_mm2, fold_mm2 = (told.get(f"{name}_mm2") for name in MARKS)
    return SlideQuality(
        slide_id=status.slide_id,
        status=status.status,
        reason=status.reason,
        step=status.step,
        tissue_mm2=status.tissue_mm2,
        pen_mm2=None if pen_mm2 is None else float(pen_mm2),
        fold_mm2=None if fold_mm2 is None else float(fold_mm2),
        tiles=status.tiles,
        tiles_laid=status.tiles_laid,
        dropped_damaged=status.dropped_damaged,
        dropped_pen=status.dropped_pen,
        dropped_background=status.dropped_background,
        dropped_blurred=status.dropped_blurred,
        measured_tiles=None if counts is None else counts.tiles,
        blurred_tiles=None if counts is None else counts.blurred,
        pen_tiles=None if counts is None else counts.pen,
        background_tiles=None if counts is None else counts.background,
        slide_mpp=status.slide_mpp if known else None,
        mpp_source=status.mpp_source if known else "",
        **slide_facts_of(told)._asdict(),
    )

"""Tables of slide quality: the cohort in a few lines, and every slide in one."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from wsi_kd.core.records import SlideStatus
from wsi_kd.features.quality_counts import NOTABLE
from wsi_kd.report.numbers import UNDEFINED, count_cell
from wsi_kd.report.page import Block, Cell, Column, Note, Table
from wsi_kd.report.qc_record import scanner_name
from wsi_kd.report.slide_quality import SlideQuality

LEFT_OUT = {
    "dropped_damaged": "damaged",
    "dropped_pen": "pen",
    "dropped_background": "background",
    "dropped_blurred": "blurred",
}


class Measure(NamedTuple):
    """One quality of a slide: its value, None where unknown, and how it is written."""

    heading: str
    value: Callable[[SlideQuality], float | None]
    form: str


def _share(counted: Callable[[SlideQuality], int | None]) -> Callable[[SlideQuality], float | None]:
    def share(slide: SlideQuality) -> float | None:
        count = counted(slide)
        return count / slide.measured_tiles if slide.measured_tiles and count is not None else None

    return share


MEASURES = (
    Measure("Tissue (mm²)", lambda slide: slide.tissue_mm2, ",.2f"),
    Measure("Tiles", lambda slide: slide.tiles, ",.0f"),
    Measure("Blurred tiles", _share(lambda slide: slide.blurred_tiles), ".1%"),
    Measure("Tiles with pen", _share(lambda slide: slide.pen_tiles), ".1%"),
    Measure("Tiles mostly glass", _share(lambda slide: slide.background_tiles), ".1%"),
    Measure("Pen (mm²)", lambda slide: slide.pen_mm2, ",.2f"),
    Measure("Folds (mm²)", lambda slide: slide.fold_mm2, ",.2f"),
    Measure("um/px", lambda slide: slide.slide_mpp, ".4g"),
)
"""Columns of the table of slides; of the used ones the summary's lines."""


def quality_summary(slides: Sequence[SlideQuality]) -> list[Block]:
    """Build the cohort's quality in a few lines, of the slides that were used."""
    used = [slide for slide in slides if slide.status == SlideStatus.OK]
    rows = tuple(_summary_row(measure, used) for measure in MEASURES if _known(measure, used).size)
    if not rows:
        return []
    headings = ("Median", "Least", "Most", "Slides")
    columns = (Column("Measure"), *(Column(heading, numeric=True) for heading in headings))
    measured = sum(slide.measured_tiles is not None for slide in used)
    text = (
        f"Tiles of {measured:,} of {len(used):,} used slides were measured. Blurred: sharpness below "
        f"{NOTABLE.min_sharpness:g}; with pen: more than {NOTABLE.max_pen_fraction:.0%} of the tile; mostly "
        f"glass: more than {NOTABLE.max_background_fraction:.0%}. Shares are of measured tiles, those left "
        "out among them. Thumbnails of every slide: qc/index.html of the run, where the step qc was run."
    )
    return [Table("Quality of the used slides", columns, rows, compact=True), Note(text)]


def all_slides_table(slides: Sequence[SlideQuality]) -> Table:
    """Build the table of every slide, folded."""
    columns = (
        Column("Slide"),
        Column("Status"),
        *(Column(measure.heading, numeric=True) for measure in MEASURES),
        Column("Tiles left out", numeric=True),
        Column("um/px from"),
        Column("Scanner"),
        Column("Reason"),
    )
    return Table("All slides", columns, tuple(_slide_row(slide) for slide in slides), folded=True)


def _known(measure: Measure, slides: Sequence[SlideQuality]) -> np.ndarray:
    values = (measure.value(slide) for slide in slides)
    return np.array([value for value in values if value is not None], dtype=np.float64)


def _summary_row(measure: Measure, slides: Sequence[SlideQuality]) -> tuple[Cell, ...]:
    values = _known(measure, slides)
    middle, least, most = (float(value) for value in (np.median(values), values.min(), values.max()))
    told = (Cell(format(value, measure.form), number=value) for value in (middle, least, most))
    return (Cell(measure.heading), *told, count_cell(len(values)))


def _slide_row(slide: SlideQuality) -> tuple[Cell, ...]:
    values = ((measure.value(slide), measure.form) for measure in MEASURES)
    measured = (
        Cell(UNDEFINED if value is None else format(value, form), number=value) for value, form in values
    )
    return (
        Cell(slide.slide_id),
        Cell(str(slide.status)),
        *measured,
        _left_out(slide),
        Cell(slide.mpp_source),
        Cell(scanner_name(slide.vendor, slide.scanner)),
        Cell(slide.reason),
    )


def _left_out(slide: SlideQuality) -> Cell:
    """Tell the share of tiles that were laid but not used, by reason."""
    counts = {name: getattr(slide, column) for column, name in LEFT_OUT.items()}
    shares = {name: count / max(slide.tiles_laid, count) for name, count in counts.items() if count}
    text = ", ".join(f"{share:.1%} {name}" for name, share in shares.items())
    return Cell(text, number=sum(shares.values()))

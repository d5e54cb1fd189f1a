"""Sections on the cohort: who went in, who was left out and why, who was trained and tested on."""

from collections.abc import Sequence

from wsi_kd.core.records import SlideStatus
from wsi_kd.evaluation.schema import Metrics
from wsi_kd.report.numbers import count_cell
from wsi_kd.report.page import LONG_TABLE, Block, Cell, Column, Note, Section, Table
from wsi_kd.report.quality_tables import all_slides_table, quality_summary
from wsi_kd.report.slide_quality import SlideQuality

STATUS_MEANINGS = {
    SlideStatus.OK: "used",
    SlideStatus.EMPTY: "no tissue found",
    SlideStatus.MISSING_MPP: "resolution unknown",
    SlideStatus.TOO_COARSE: "scanned coarser than the tiles ask for",
    SlideStatus.UNREADABLE: "file cannot be opened or read",
    SlideStatus.READER_CRASHED: "reading it crashes, hangs or exhausts the memory",
    SlideStatus.DAMAGED_TILES: "too many tiles cannot be read",
    SlideStatus.TOO_FEW_TILES: "fewer tiles than asked for",
    SlideStatus.MISSING_FEATURES: "no features among those given",
}


def cohort_section(metrics: Metrics) -> Section:
    """Build the table of partitions: slides and cases of every part of every fold."""
    classes, cohort = metrics["classes"], metrics["cohort"]
    headings = ("Fold", "Part", "Slides", "Cases", *(f"Slides: {name}" for name in classes))
    columns = tuple(Column(heading, numeric=heading != "Part") for heading in headings)
    rows = tuple(
        (
            count_cell(part["fold"]),
            Cell(part["part"]),
            count_cell(part["slides"]),
            count_cell(part["cases"]),
            *(count_cell(part["slides_per_class"].get(name, 0)) for name in classes),
        )
        for part in cohort["folds"]
    )
    lead = "Parts are drawn by case: no case is in two parts of a fold; a leak stops the run before training."
    return Section(
        "cohort", "Cohort and parts", (Note(lead), Table("Slides and cases by part", columns, rows))
    )


def status_section(slides: Sequence[SlideQuality]) -> Section:
    """Build the flow of slides, those left out with their reasons, and the quality of every slide."""
    failed = [slide for slide in slides if slide.status != SlideStatus.OK]
    lead = (
        f"{len(failed):,} of {len(slides):,} slides were left out, before any model was trained."
        if failed
        else f"All {len(slides):,} slides were used."
    )
    blocks: list[Block] = [Note(lead), _flow(slides)]
    if failed:
        blocks.append(_left_out(failed))
    blocks += quality_summary(slides)
    return Section("slides", "Slides: status and quality", (*blocks, all_slides_table(slides)))


def _flow(slides: Sequence[SlideQuality]) -> Table:
    counts = [(status, sum(slide.status == status for slide in slides)) for status in SlideStatus]
    rows = tuple(
        (Cell(str(status)), Cell(STATUS_MEANINGS[status]), count_cell(count))
        for status, count in counts
        if count
    )
    columns = (Column("Status"), Column("Meaning"), Column("Slides", numeric=True))
    return Table("Flow of slides", columns, rows, compact=True)


def _left_out(failed: Sequence[SlideQuality]) -> Table:
    headings = (Column("Slide"), Column("Status"), Column("Step"), Column("Reason"))
    rows = tuple(
        (Cell(slide.slide_id), Cell(str(slide.status)), Cell(slide.step), Cell(slide.reason))
        for slide in failed
    )
    return Table("Slides left out", headings, rows, folded=len(rows) > LONG_TABLE)

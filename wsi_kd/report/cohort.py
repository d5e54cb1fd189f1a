"""Sections on the cohort: who went in, who was left out and why, who was trained and tested on."""

from collections.abc import Sequence

from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.evaluation.schema import Metrics
from wsi_kd.report.numbers import count_cell, number_cell
from wsi_kd.report.page import Block, Cell, Column, Note, Section, Table

STATUS_MEANINGS = {
    SlideStatus.OK: "used",
    SlideStatus.EMPTY: "no tissue found",
    SlideStatus.MISSING_MPP: "resolution unknown",
    SlideStatus.TOO_COARSE: "scanned coarser than the tiles ask for",
    SlideStatus.UNREADABLE: "file cannot be opened or read",
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


def status_section(statuses: Sequence[StatusRow]) -> Section:
    """Build the flow of slides, the slides left out with their reasons, and the status of every slide."""
    failed = [row for row in statuses if row.status != SlideStatus.OK]
    lead = (
        f"{len(failed)} of {len(statuses)} slides were left out, before any model was trained."
        if failed
        else f"All {len(statuses)} slides were used."
    )
    blocks: list[Block] = [Note(lead), _flow(statuses)]
    if failed:
        headings = (Column("Slide"), Column("Status"), Column("Step"), Column("Reason"))
        rows = tuple(
            (Cell(row.slide_id), Cell(str(row.status)), Cell(row.step), Cell(row.reason)) for row in failed
        )
        blocks.append(Table("Slides left out", headings, rows))
    return Section("slides", "Every slide's status", (*blocks, _all_slides(statuses)))


def _flow(statuses: Sequence[StatusRow]) -> Table:
    counts = [(status, sum(row.status == status for row in statuses)) for status in SlideStatus]
    rows = tuple(
        (Cell(str(status)), Cell(STATUS_MEANINGS[status]), count_cell(count))
        for status, count in counts
        if count
    )
    columns = (Column("Status"), Column("Meaning"), Column("Slides", numeric=True))
    return Table("Flow of slides", columns, rows, compact=True)


def _all_slides(statuses: Sequence[StatusRow]) -> Table:
    columns = (
        Column("Slide"),
        Column("Status"),
        Column("Tiles", numeric=True),
        Column("Tiles left out", numeric=True),
        Column("Tissue (mm²)", numeric=True),
        Column("Resolution (um/px)", numeric=True),
        Column("Resolution from"),
        Column("Reason"),
    )
    return Table("All slides", columns, tuple(_slide_row(row) for row in statuses), folded=True)


def _left_out(row: StatusRow) -> Cell:
    """Tell the share of tiles that were laid but not used, by reason."""
    counts = {
        "damaged": row.dropped_damaged,
        "pen": row.dropped_pen,
        "background": row.dropped_background,
        "blurred": row.dropped_blurred,
    }
    shares = {name: count / max(row.tiles_laid, count) for name, count in counts.items() if count}
    text = ", ".join(f"{share:.1%} {name}" for name, share in shares.items())
    return Cell(text, number=sum(shares.values()))


def _slide_row(row: StatusRow) -> tuple[Cell, ...]:
    known = row.slide_mpp > 0
    return (
        Cell(row.slide_id),
        Cell(str(row.status)),
        count_cell(row.tiles),
        _left_out(row),
        Cell(f"{row.tissue_mm2:.2f}", number=row.tissue_mm2),
        number_cell(row.slide_mpp if known else None),
        Cell(row.mpp_source if known else ""),
        Cell(row.reason),
    )

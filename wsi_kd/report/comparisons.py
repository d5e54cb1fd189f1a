"""Section of comparisons: every recipe against the baseline recipe, with p-values."""

from collections.abc import Sequence

from wsi_kd.evaluation.schema import ComparisonRecord, Metrics
from wsi_kd.evaluation.summary import distinct_scores
from wsi_kd.report.numbers import difference_cell, p_cell, spread_cell
from wsi_kd.report.page import Block, Cell, Column, Note, Section, Table
from wsi_kd.report.record import model_name

SLIDE_COLUMNS = {"roc_auc": "AUC", "average_precision": "Average precision"}
TILE_COLUMNS = {
    "roc_auc": "AUC: all tiles",
    "roc_auc_within_slide": "AUC: within slide",
    "average_precision_positive_slides": "AP: positive slides",
}


def comparison_section(metrics: Metrics) -> Section:
    """Build the tables of differences from the baseline recipe, of slide scores and of tile scores."""
    found = metrics["comparisons"]
    shown = {recipe: distinct_scores(measured) for recipe, measured in metrics["recipes"].items()}
    slides = [record for record in found["slides"] if record["score"] in shown[record["recipe"]]]
    blocks: list[Block] = [
        Note(_how_to_read(metrics) if slides else f"Nothing is compared: {found['reason']}.")
    ]
    if slides:
        blocks.append(_table("Slide scores: difference, interval, p-value", slides, SLIDE_COLUMNS))
    if found["tiles"]:
        blocks.append(_table("Tile scores: difference, interval, p-value", found["tiles"], TILE_COLUMNS))
    return Section("comparisons", "Differences from the baseline recipe", tuple(blocks))


def _how_to_read(metrics: Metrics) -> str:
    macro = " (here, of more than two classes, the bootstrap too)" if len(metrics["classes"]) > 2 else ""  # noqa: PLR2004
    return (
        "Both scores are of the same test slides. A difference is that of the means over seeds; p is "
        "two-sided, and how often so large a difference would be seen if there were none: for the AUC of "
        f"slides by DeLong's test with the slides of a patient taken together{macro}, for all else by the "
        "bootstrap of patients. Models are taken as they are; what another training changes stands in "
        "'over seeds'. Of many rows some are below 0.05 by chance: nothing is corrected for their number. "
        "A student is also compared with its own teacher's evidence, which costs no distillation."
    )


def _table(caption: str, records: Sequence[ComparisonRecord], columns: dict[str, str]) -> Table:
    headings = [Column("Score"), Column("Against")]
    for name in columns.values():
        headings += [Column(name, numeric=True), Column("p", numeric=True)]
    headings.append(Column(f"{next(iter(columns.values()))}, over seeds", numeric=True))
    return Table(caption, tuple(headings), tuple(_row(record, columns) for record in records))


def _row(record: ComparisonRecord, columns: dict[str, str]) -> tuple[Cell, ...]:
    cells = [
        Cell(model_name(record["recipe"], record["score"])),
        Cell(model_name(record["against_recipe"], record["against_score"])),
    ]
    for metric in columns:
        cells += [difference_cell(record["metrics"][metric]), p_cell(record["metrics"][metric])]
    first = record["metrics"][next(iter(columns))]
    return (*cells, spread_cell(first["over_seeds"]))

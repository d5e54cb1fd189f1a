"""Section of the page drawn from `report/reporting_items.json`: checklist, flow, every part, failures."""

from collections.abc import Iterator
from typing import Any, cast

from wsi_kd.report.numbers import count_cell, interval_cell, number_cell
from wsi_kd.report.page import LONG_TABLE, Block, Cell, Column, Note, Section, Table
from wsi_kd.report.record import model_name
from wsi_kd.report.reporting_cohort_facts import Flow
from wsi_kd.report.reporting_result_facts import Failures, PartitionPerformance
from wsi_kd.report.reporting_schema import FILE, ReportingItems

PERFORMANCE_HEADINGS = {
    "roc_auc": "AUC",
    "average_precision": "Average precision",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
}


def reporting_section(told: ReportingItems) -> Section:
    """Build the checklist: every item with its answer, or why there is none; then what it lists."""
    items = cast("dict[str, dict[str, Any]]", told["items"])
    absent = sum(item["status"] == "not available" for item in items.values())
    lead = (
        f"What CLAIM and TRIPOD+AI ask of a study and a program can check: {len(items) - absent} items are "
        f"present, {absent} are not available, each with the reason. All facts: report/{FILE}. Left to the "
        f"authors: {'; '.join(told['left_to_authors'])}. "
        f"Numbers of items: {' '.join(told['guidelines'].values())}"
    )
    blocks: list[Block] = [Note(lead), _checklist(told, items)]
    blocks += _flow_blocks(told)
    blocks += _performance_blocks(told)
    blocks += _failure_blocks(told)
    return Section("reporting", "Reporting checklist", tuple(blocks))


def _checklist(told: ReportingItems, items: dict[str, dict[str, Any]]) -> Table:
    columns = (Column("Item"), Column("CLAIM"), Column("TRIPOD+AI"), Column("Status"), Column("Answer"))
    rows = tuple(
        (
            Cell(label["heading"]),
            Cell(", ".join(label["claim"])),
            Cell(", ".join(label["tripod_ai"])),
            Cell(items[key]["status"]),
            Cell(items[key]["text"] if items[key]["status"] == "present" else items[key]["reason"]),
        )
        for key, label in told["checklist"].items()
    )
    return Table("Checklist", columns, rows)


def _flow_blocks(told: ReportingItems) -> Iterator[Block]:
    item = told["items"]["flow"]
    facts: Flow = item["facts"]
    columns = (
        Column("Step"),
        Column("Slides in", numeric=True),
        Column("Left out", numeric=True),
        Column("Why"),
        Column("Slides on", numeric=True),
    )
    rows = tuple(
        (
            Cell(stage["step"]),
            count_cell(stage["slides_in"]),
            count_cell(sum(stage["left_out"].values())),
            Cell(", ".join(f"{reason} {count:,}" for reason, count in stage["left_out"].items() if count)),
            count_cell(stage["slides_out"]),
        )
        for stage in facts["stages"]
    )
    yield Table("Flow of slides, from the manifest to the numbers", columns, rows)


def _performance_blocks(told: ReportingItems) -> Iterator[Block]:
    item = told["items"]["performance"]
    if item["status"] == "not available":
        return
    headings = ("Slides", *PERFORMANCE_HEADINGS.values())
    columns = (Column("Score"), Column("Part"), *(Column(heading, numeric=True) for heading in headings))
    rows = tuple(_performance_row(part) for part in item["facts"])
    yield Table("Performance on every part: estimate and interval", columns, rows)


def _performance_row(part: PartitionPerformance) -> tuple[Cell, ...]:
    name = Cell(model_name(part["recipe"], part["score"]))
    if not part["metrics"]:
        unknown = (number_cell(None) for _ in PERFORMANCE_HEADINGS)
        return (name, Cell(part["part"], note="not available, see above"), number_cell(None), *unknown)
    measured = (interval_cell(part["metrics"][metric]) for metric in PERFORMANCE_HEADINGS)
    slides = number_cell(None) if part["slides"] is None else count_cell(part["slides"])
    return (name, Cell(part["part"]), slides, *measured)


def _failure_blocks(told: ReportingItems) -> Iterator[Block]:
    item = told["items"]["failures"]
    if item["status"] == "not available":
        return
    facts: Failures = item["facts"]
    headings = ("Slide", "Case", "Label", "Called")
    numbers = ("Probability", "Threshold", "Seed", "Fold")
    columns = (*(Column(text) for text in headings), *(Column(text, numeric=True) for text in numbers))
    rows = tuple(
        (
            *(Cell(call[key]) for key in ("slide_id", "case_id", "label", "call")),
            number_cell(call["probability"]),
            number_cell(call["threshold"]),
            count_cell(call["seed"]),
            count_cell(call["fold"]),
        )
        for call in facts["wrong"]
    )
    name = model_name(facts["recipe"], facts["score"])
    yield Table(f"Wrong calls of {name}, the surest first", columns, rows, folded=len(rows) > LONG_TABLE)

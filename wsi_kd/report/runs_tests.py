"""Section of paired tests between runs: differences, p-values, and these corrected for their number."""

from collections.abc import Iterator

from wsi_kd.evaluation.against_baseline import COMPARED_SLIDE_METRICS
from wsi_kd.evaluation.schema_runs import RunComparisonFile, RunDifference, RunTest
from wsi_kd.report.figures import Estimate
from wsi_kd.report.numbers import count_cell, difference_cell, number_cell, p_cell, spread_cell
from wsi_kd.report.page import Block, Cell, Chart, Column, Note, Section, Table
from wsi_kd.report.record import model_name
from wsi_kd.report.runs_chart import CHARTED, difference_chart

NAMES = {"roc_auc": "AUC", "average_precision": "average precision", "balanced_accuracy": "balanced accuracy"}


def tests_section(comparison: RunComparisonFile) -> Section:
    """Build the tables of paired tests, a table a metric, and the chart of AUC differences."""
    tests = comparison["tests"]
    blocks: list[Block] = [Note(_how_to_read(comparison))]
    blocks += [_table(tests, metric) for metric in COMPARED_SLIDE_METRICS]
    blocks += _chart(comparison)
    if any(test["metrics"]["roc_auc"]["per_seed"] for test in tests):
        blocks.append(_seeds(tests))
    return Section("tests", "Paired tests between runs", tuple(blocks))


def _how_to_read(comparison: RunComparisonFile) -> str:
    macro = " (of more than two classes the bootstrap)" if len(comparison["classes"]) > 2 else ""  # noqa: PLR2004
    return (
        "Each row is one score minus the other on the slides that both runs tested, the one that validation "
        "ranks higher first; means over seeds. p is two-sided: for the AUC by DeLong's test with the slides "
        f"of a patient taken together{macro}, for the other metrics by the bootstrap of patients, the same "
        "resamples on both sides. p (Holm) is corrected for all "
        f"{comparison['family']['tests']} tests of the tables below together (Holm 1979): to believe only "
        "rows below 0.05 there errs in 5 of 100 such pages at most. Models are taken as they are; what "
        "another training changes stands in the spread over seeds. No difference found is no proof of none: "
        "look at the interval."
    )


def _table(tests: list[RunTest], metric: str) -> Table:
    columns = (
        Column("Run and score"),
        Column("Against"),
        Column("Slides", numeric=True),
        Column(f"Difference in {NAMES[metric]}", numeric=True),
        Column("p", numeric=True),
        Column("p (Holm)", numeric=True),
        Column("Over seeds", numeric=True),
        Column("Test"),
        Column("Why this pair"),
    )
    rows = tuple(
        (
            Cell(_first(test)),
            Cell(_second(test)),
            count_cell(test["slides"])._replace(note=f"{test['cases']:,} cases"),
            difference_cell(test["metrics"][metric]),
            p_cell(test["metrics"][metric]),
            _holm_cell(test["metrics"][metric]),
            spread_cell(test["metrics"][metric]["over_seeds"]),
            Cell(test["metrics"][metric]["test"]),
            Cell(test["why"]),
        )
        for test in tests
    )
    return Table(f"Differences in {NAMES[metric]}", columns, rows)


def _holm_cell(difference: RunDifference) -> Cell:
    return p_cell({**difference, "p_value": difference["p_holm"]})


def _chart(comparison: RunComparisonFile) -> Iterator[Block]:
    estimates = [
        Estimate(f"{_first(test)} - {_second(test)}", found["estimate"], found["low"], found["high"])
        for test in comparison["tests"]
        if (found := test["metrics"]["roc_auc"])["estimate"] is not None
    ]
    drawn, confidence = estimates[:CHARTED], comparison["confidence"]
    if drawn:
        svg = difference_chart("runs-difference", drawn, metric="AUC", confidence=confidence)
        left = f"; the first {CHARTED} of {len(estimates)} pairs" if len(estimates) > CHARTED else ""
        yield Chart(svg, f"Differences in AUC with their intervals, not corrected for their number{left}.")


def _seeds(tests: list[RunTest]) -> Table:
    columns = (
        Column("Run and score"),
        Column("Against"),
        Column("Seed", numeric=True),
        Column("Difference in AUC", numeric=True),
        Column("p", numeric=True),
    )
    rows = tuple(
        (
            Cell(_first(test)),
            Cell(_second(test)),
            Cell(str(seed["seed"]), number=float(seed["seed"])),
            number_cell(seed["difference"]),
            p_cell({**seed}),
        )
        for test in tests
        for seed in test["metrics"]["roc_auc"]["per_seed"]
    )
    return Table(
        "Differences in AUC by seed, for seeds that both runs have; not corrected", columns, rows, folded=True
    )


def _first(test: RunTest) -> str:
    return f"{test['run']}: {model_name(test['recipe'], test['score'])}"


def _second(test: RunTest) -> str:
    return f"{test['against_run']}: {model_name(test['against_recipe'], test['against_score'])}"

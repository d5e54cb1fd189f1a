"""The page of several runs: leaderboard by validation, paired tests, what the runs have in common."""

import shlex
from collections.abc import Mapping, Sequence

from wsi_kd.evaluation.schema import SLIDE_METRICS, PooledMetric
from wsi_kd.evaluation.schema_runs import LeaderboardRow, RunComparisonFile
from wsi_kd.report.figures import Estimate, interval_chart
from wsi_kd.report.numbers import count_cell, interval_cell
from wsi_kd.report.page import Block, Cell, Chart, Column, Listing, Note, Page, Section, Table
from wsi_kd.report.record import model_name
from wsi_kd.report.runs_chart import CHARTED
from wsi_kd.report.runs_facts import runs_section, settings_section
from wsi_kd.report.runs_tests import tests_section

HEADINGS = {
    "roc_auc": "AUC",
    "average_precision": "Average precision",
    "balanced_accuracy": "Balanced accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "f1": "F1",
}


def runs_page(comparison: RunComparisonFile) -> Page:
    """Build the page from what `comparison.json` holds."""
    names = [run["run"] for run in comparison["runs"]]
    facts = (
        ("Runs", str(len(names))),
        ("Classes", ", ".join(comparison["classes"])),
        ("Slides that all tested", f"{comparison['shared_by_all']:,}"),
        ("Paired tests", str(comparison["family"]["tests"])),
        ("wsi-kd", comparison["versions"]["wsi_kd"]),
    )
    sections = (
        _leaderboard_section(comparison),
        tests_section(comparison),
        runs_section(comparison),
        settings_section(comparison),
        _provenance(comparison),
    )
    return Page(f"{len(names)} runs compared", comparison["research_only"], facts, sections)


def _leaderboard_section(comparison: RunComparisonFile) -> Section:
    rows = comparison["leaderboard"]
    blocks: list[Block] = [
        Note(_how_to_read(comparison)),
        *(Note(text, caution=True) for text in comparison["notes"]),
        _leaderboard(
            "Every score of every run, by validation AUC", rows, {row["rank"]: row["test"] for row in rows}
        ),
    ]
    if any(row["shared"] for row in rows):
        caption = f"The same on the {comparison['shared_by_all']:,} slides that every run tested"
        blocks.append(_leaderboard(caption, rows, {row["rank"]: row["shared"] for row in rows}))
    blocks += _overview(comparison)
    return Section("leaderboard", "Leaderboard", tuple(blocks))


def _how_to_read(comparison: RunComparisonFile) -> str:
    macro = " (here the mean over classes, each against the rest)" if len(comparison["classes"]) > 2 else ""  # noqa: PLR2004
    return (
        f"Ranked by the AUC{macro} of the validation slides, never by the test slides: who picks the best "
        "test score of many reports luck. Validation scores flatter every row, for weights and thresholds "
        "were chosen on those slides. Numbers are means over seeds; below them stand the "
        f"{comparison['confidence']:.0%} intervals of the patient bootstrap. Calls use each model's own "
        "threshold, chosen on validation."
    )


def _leaderboard(
    caption: str, rows: Sequence[LeaderboardRow], measured: Mapping[int, Mapping[str, PooledMetric]]
) -> Table:
    columns = (
        Column("Rank", numeric=True),
        Column("Run"),
        Column("Score"),
        Column("Validation AUC", numeric=True),
        *(Column(f"Test {HEADINGS[metric]}", numeric=True) for metric in SLIDE_METRICS),
        Column("Test slides", numeric=True),
        Column("Seeds", numeric=True),
    )
    lines = tuple(
        (
            Cell(str(row["rank"]), number=float(row["rank"])),
            Cell(row["run"]),
            Cell(model_name(row["recipe"], row["score"])),
            interval_cell(row["validation"]),
            *(interval_cell(measured[row["rank"]][metric]) for metric in SLIDE_METRICS),
            count_cell(row["test_slides"]),
            count_cell(row["seeds"]),
        )
        for row in rows
    )
    return Table(caption, columns, lines)


def _overview(comparison: RunComparisonFile) -> list[Block]:
    """Draw the test AUCs in the order of the leaderboard."""
    estimates = [
        Estimate(
            f"{row['rank']}. {row['run']}: {model_name(row['recipe'], row['score'])}",
            found["estimate"],
            found["low"],
            found["high"],
        )
        for row in comparison["leaderboard"]
        if (found := row["test"]["roc_auc"])["estimate"] is not None
    ]
    if not estimates:
        return []
    drawn, confidence = estimates[:CHARTED], comparison["confidence"]
    chart = interval_chart("runs-auc", drawn, metric="test AUC", confidence=confidence)
    left = f", the first {CHARTED} of {len(estimates)}" if len(estimates) > CHARTED else ""
    return [
        Chart(chart, f"Test AUC of the leaderboard's rows, in its order{left}; the dashed line is chance.")
    ]


def _provenance(comparison: RunComparisonFile) -> Section:
    versions = "\n".join(f"{name} {version}" for name, version in sorted(comparison["versions"].items()))
    told = (
        f"Intervals and resamples: {comparison['bootstrap_samples']:,} draws of patients, seed "
        f"{comparison['seed']}, as the first run's evaluate settings say. All numbers of this page stand in "
        "comparison.json beside it, those of the leaderboard in leaderboard.csv too."
    )
    command = shlex.join(["wsi-kd", "report", *(run["run"] for run in comparison["runs"]), "--out", "FOLDER"])
    blocks = (Note(told), Listing("Again, from the runs' folders", command), Listing("Versions", versions))
    return Section("provenance", "How this was made", blocks)

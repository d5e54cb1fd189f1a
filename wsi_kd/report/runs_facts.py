"""Sections of what compared runs are: slides and seeds of each, slides in common, settings that differ."""

import json
from typing import Any

from wsi_kd.evaluation.schema_runs import RunComparisonFile
from wsi_kd.report.numbers import UNDEFINED, count_cell
from wsi_kd.report.page import Block, Cell, Column, Note, Section, Table


def runs_section(comparison: RunComparisonFile) -> Section:
    """Build the tables of runs and of the slides that two of them share."""
    columns = (
        Column("Run"),
        Column("Recipes"),
        Column("Seeds"),
        Column("Folds", numeric=True),
        Column("Test slides", numeric=True),
        Column("Cases", numeric=True),
        Column("Without a label", numeric=True),
        Column("Split alike", numeric=True),
        Column("wsi-kd"),
    )
    rows = tuple(
        (
            Cell(run["run"]),
            Cell(", ".join(run["recipes"])),
            Cell(", ".join(map(str, run["seeds"]))),
            count_cell(run["folds"]),
            count_cell(run["test_slides"]),
            count_cell(run["test_cases"]),
            count_cell(run["unlabeled"]),
            count_cell(run["split_group"]),
            Cell(run["version"]),
        )
        for run in comparison["runs"]
    )
    blocks = (
        Table(
            "Runs; those of one number under 'Split alike' put every slide into the same part", columns, rows
        ),
        _shared(comparison),
    )
    return Section("runs", "Runs", blocks)


def settings_section(comparison: RunComparisonFile) -> Section:
    """Build the table of settings that are not alike in all runs."""
    differing = comparison["differing_settings"]
    names = [run["run"] for run in comparison["runs"]]
    blocks: tuple[Block, ...] = (Note("All recorded settings are alike."),)
    if differing:
        rows = tuple(
            (Cell(key), *(Cell(_shown(values.get(name))) for name in names))
            for key, values in differing.items()
        )
        table = Table("Settings that differ", (Column("Setting"), *map(Column, names)), rows)
        blocks = (
            Note(
                "Whatever differs here, or in the slides and splits above, may be what makes a difference in "
                "scores: a test tells that there is one, not why."
            ),
            table,
        )
    return Section("settings", "Settings that differ", blocks)


def _shared(comparison: RunComparisonFile) -> Table:
    columns = (
        Column("Run"),
        Column("Against"),
        Column("Both tested", numeric=True),
        Column("The first alone", numeric=True),
        Column("The second alone", numeric=True),
    )
    rows = tuple(
        (
            Cell(pair["run"]),
            Cell(pair["against_run"]),
            count_cell(pair["both"]),
            count_cell(pair["only_run"]),
            count_cell(pair["only_against_run"]),
        )
        for pair in comparison["shared_slides"]
    )
    return Table("Test slides (with a label) of every two runs", columns, rows)


def _shown(value: Any) -> str:
    """Show a setting as it stands in JSON, text without quotes.

    >>> _shown("uni"), _shown([1, 2]), _shown(None)
    ('uni', '[1, 2]', 'n/a')
    """
    if value is None:
        return UNDEFINED
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

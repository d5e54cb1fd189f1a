"""Sections on how the numbers came about: models, settings, versions, how to make them again."""

import yaml

from wsi_kd.evaluation.schema import Metrics
from wsi_kd.report.numbers import count_cell, known_cell
from wsi_kd.report.page import Cell, Column, Listing, Note, Section, Table
from wsi_kd.report.record import RECIPE_NAMES, RunRecord

SHOWN_HASH = 12


def provenance_section(record: RunRecord) -> Section:
    """Build models, recorded settings, versions, git state and commands."""
    versions = {**record.metrics["versions"], "git": record.git}
    rows = tuple((Cell(name), Cell(version)) for name, version in versions.items())
    settings = yaml.safe_dump(dict(record.settings), sort_keys=False, allow_unicode=True, width=100)
    return Section(
        "provenance",
        "How this was made",
        (
            Note(
                "Before you pass it on: the page names slides and cases as the manifest does and shows "
                "pictures of slides. It holds no folder and no other metadata of a slide."
            ),
            Note("The page carries no date: the same files make the same page, byte for byte."),
            Listing("Make it again", "\n".join(record.commands)),
            Table("Versions", (Column("Part"), Column("Version")), rows, compact=True),
            Listing("Settings as the run's files recorded them", settings),
            _models(record.metrics),
        ),
    )


def _models(metrics: Metrics) -> Table:
    columns = (
        Column("Recipe"),
        Column("Seed", numeric=True),
        Column("Fold", numeric=True),
        Column("Epoch kept", numeric=True),
        Column("Teacher's threshold", numeric=True),
        Column("Student's threshold", numeric=True),
        Column("Threshold by"),
        Column("sha256 of the weights"),
    )
    rows = tuple(
        (
            Cell(RECIPE_NAMES.get(recipe, recipe)),
            count_cell(model["seed"]),
            count_cell(model["fold"]),
            count_cell(model["epoch"]),
            known_cell(model["thresholds"].get("teacher"), "no teacher"),
            known_cell(model["thresholds"].get("student"), "no student"),
            Cell(f"{model['threshold_rule']} on {model['threshold_split']}"),
            Cell(model["weights_sha256"][:SHOWN_HASH]),
        )
        for recipe, measured in metrics["recipes"].items()
        for model in measured["models"]
    )
    return Table("Models", columns, rows, folded=True)

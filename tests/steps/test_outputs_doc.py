"""docs/outputs.md names every column and member that is written."""

import re
from pathlib import Path

import pytest

from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.inference.prediction_schema import (
    ModelRecord,
    OutOfDistributionRecord,
    PredictionRecord,
    SecondsRecord,
    SpreadRecord,
    ThresholdRecord,
    UncertaintyRecord,
)
from wsi_kd.inference.tables import CLASS_FIELDS, SLIDE_COLUMNS
from wsi_kd.report.qc_record import QC_COLUMNS
from wsi_kd.steps.infer_table import SCORES

DOC = (Path(__file__).resolve().parents[2] / "docs/outputs.md").read_text(encoding="utf-8")
IN_EVERY_FILE = {
    "schema_version",
    "kind",
    "settings",
    "settings_hash",
    "versions",
    "inputs_hash",
    "content_sha256",
}


def section(heading: str) -> set[str]:
    """Every name in code marks of one section."""
    (text,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", DOC, flags=re.MULTILINE | re.DOTALL)
    return {name for marked in re.findall(r"`([^`]+)`", text) for name in re.split(r"[,\s]+", marked)}


RECORDS = (
    PredictionRecord,
    ModelRecord,
    OutOfDistributionRecord,
    SecondsRecord,
    SpreadRecord,
    ThresholdRecord,
    UncertaintyRecord,
)


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("What every file carries", IN_EVERY_FILE),
        ("Status tables", set(StatusRow._fields)),
        ("Cohort quality", set(QC_COLUMNS)),
        ("Predictions", {*SLIDE_COLUMNS, *(f"{start}<class>" for _, start in CLASS_FIELDS)}),
        ("Inference", {name for record in RECORDS for name in record.__annotations__} - IN_EVERY_FILE),
        ("Inference", {f"{score}_probability" for score in SCORES}),
    ],
)
def test_every_column_and_member_is_documented(heading, names):
    assert names - section(heading) == set()


def test_every_status_is_documented():
    assert all(str(status) in DOC for status in SlideStatus)

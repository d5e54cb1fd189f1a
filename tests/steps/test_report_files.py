"""The data files beside the page: they come back unchanged, and the documentation names every column."""

import re
from pathlib import Path

import numpy as np
import pytest
from report_runs import RunMaker

from wsi_kd.core.errors import BadInput
from wsi_kd.report.gallery_tiles import ShownTile
from wsi_kd.report.precision_lines import PrecisionLine
from wsi_kd.report.reporting_schema import Items
from wsi_kd.report.slide_quality import SlideQuality
from wsi_kd.report.timings import JobTiming
from wsi_kd.steps.report_files import ReportData, read_report_files, write_report_files

DOCS = Path(__file__).resolve().parents[2] / "docs" / "outputs.md"
TILE = ShownTile("weno", 0, 1, 'a "b", c', "student_probability", "top", 1, 256, 512, 256.5, 1 / 3, None, 0.5)


LINE = PrecisionLine(
    *("weno/seed0/fold1", "student", 'of "x", y', "bfloat16", 1, "cpu", "auto", 4, 512),
    *(1 / 3, None, 0.1 + 0.2, 1e-17, None, 0.999, 0.01, "a: 'b', c", ""),
)


@pytest.fixture(scope="module")
def data():
    maker = RunMaker(slides=8)
    models = maker.models()
    history = {"epoch": np.arange(3.0), "val_teacher_loss": np.array([0.1, np.nan, 1 / 3])}
    models = (models[0]._replace(history=history), *models[1:])
    metrics = maker.metrics(models)
    reporting = maker.reporting(models, metrics)
    return ReportData(metrics, models, maker.qualities(), (TILE,), maker.jobs(), reporting, (LINE,))


def test_every_file_comes_back_unchanged(tmp_path, data):
    write_report_files(tmp_path, data, settings={"title": "A run"})
    found = read_report_files(tmp_path)
    assert (found.metrics, found.slides, found.tiles, found.jobs, found.reporting, found.precision) == (
        data.metrics,
        data.slides,
        data.tiles,
        data.jobs,
        data.reporting,
        data.precision,
    )
    for one, other in zip(found.models, data.models, strict=True):
        assert one._replace(history={}) == other._replace(history={})
        assert set(one.history) == set(other.history)
        for name, values in other.history.items():
            np.testing.assert_array_equal(one.history[name], values)


def test_a_run_without_models_slides_and_tiles_comes_back(tmp_path, data):
    nothing = ReportData({**data.metrics, "recipes": {}}, (), (), (), (), data.reporting)
    write_report_files(tmp_path, nothing, settings={})
    assert read_report_files(tmp_path) == nothing


@pytest.mark.parametrize(
    "name",
    [
        *("metrics.json", "reporting_items.json", "predictions.csv", "training.csv", "tiles.csv"),
        *("timings.csv", "precision.csv"),
    ],
)
def test_a_file_that_was_edited_is_refused(tmp_path, data, name):
    write_report_files(tmp_path, data, settings={})
    path = tmp_path / name
    path.write_text(path.read_text().replace("0", "1", 1))
    with pytest.raises(BadInput, match="make it anew with: wsi-kd report"):
        read_report_files(tmp_path)


def test_the_documentation_names_every_column():
    section = DOCS.read_text(encoding="utf-8").partition("\n## Report\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([a-z0-9_]+)`", section)) | {
        field for field in SlideQuality._fields if field.startswith("dropped_") and "`dropped_*`" in section
    }
    fields = {*SlideQuality._fields, *ShownTile._fields, *JobTiming._fields, *Items.__annotations__}
    fields |= {*PrecisionLine._fields}
    assert fields - named == set()

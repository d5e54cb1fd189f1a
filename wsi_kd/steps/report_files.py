"""The data files beside the page: all numbers that it shows, written first and read back to draw it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from wsi_kd.core.files import publish_json, publish_table, read_json, read_table
from wsi_kd.core.provenance import check_schema, stamp
from wsi_kd.evaluation.schema import Metrics
from wsi_kd.inference.tables import prediction_cells, prediction_columns, prediction_row
from wsi_kd.report.columns import cells_of, parse_lines
from wsi_kd.report.gallery_tiles import ShownTile
from wsi_kd.report.precision_lines import PrecisionLine
from wsi_kd.report.record import ModelRun
from wsi_kd.report.reporting_schema import FILE as REPORTING
from wsi_kd.report.reporting_schema import KIND as REPORTING_KIND
from wsi_kd.report.reporting_schema import ReportingItems
from wsi_kd.report.slide_quality import SlideQuality
from wsi_kd.report.timings import JobTiming

REMAKE = "wsi-kd report"
KIND = "report"
METRICS, PREDICTIONS, TRAINING = "metrics.json", "predictions.csv", "training.csv"
SLIDES, TILES, TIMINGS, PRECISION = "slides.csv", "tiles.csv", "timings.csv", "precision.csv"
MODEL_COLUMNS = ("recipe", "seed", "fold")

Line = TypeVar("Line")


class ReportData(NamedTuple):
    """What the files hold."""

    metrics: Metrics
    models: tuple[ModelRun, ...]
    slides: tuple[SlideQuality, ...]
    tiles: tuple[ShownTile, ...]
    jobs: tuple[JobTiming, ...]
    reporting: ReportingItems
    precision: tuple[PrecisionLine, ...] = ()


def write_report_files(folder: Path, data: ReportData, *, settings: Mapping[str, Any]) -> None:
    """Write the eight files; the sidecar of each table records `settings`: title and section `report`.

    Raises:
        RunFailed: one could not be written.
    """
    classes, described = data.metrics["classes"], stamp(KIND, settings)
    publish_json(folder / METRICS, data.metrics)
    publish_json(folder / REPORTING, data.reporting)
    columns = (*MODEL_COLUMNS, *prediction_columns(classes))
    publish_table(folder / PREDICTIONS, columns, _predictions(data), stamp=described)
    histories = list(dict.fromkeys(name for model in data.models for name in model.history))
    columns = (*MODEL_COLUMNS, "row", *histories)
    publish_table(folder / TRAINING, columns, _training(data.models, histories), stamp=described)
    for name, fields, lines in (
        (SLIDES, SlideQuality._fields, data.slides),
        (TILES, ShownTile._fields, data.tiles),
        (TIMINGS, JobTiming._fields, data.jobs),
        (PRECISION, PrecisionLine._fields, data.precision),
    ):
        publish_table(folder / name, fields, map(cells_of, lines), stamp=described)


def read_report_files(folder: Path) -> ReportData:
    """Read back what `write_report_files` wrote.

    Raises:
        BadInput: a file that is missing, damaged or of another version.
    """
    metrics = read_json(folder / METRICS, remake=REMAKE)
    check_schema(metrics, "metrics", where=folder / METRICS, remake=REMAKE)
    reporting = read_json(folder / REPORTING, remake=REMAKE)
    check_schema(reporting, REPORTING_KIND, where=folder / REPORTING, remake=REMAKE)
    measured = cast("Metrics", metrics)
    return ReportData(
        metrics=measured,
        models=_read_models(folder, measured),
        slides=_read_lines(folder / SLIDES, SlideQuality),
        tiles=_read_lines(folder / TILES, ShownTile),
        jobs=_read_lines(folder / TIMINGS, JobTiming),
        reporting=cast("ReportingItems", reporting),
        precision=_read_lines(folder / PRECISION, PrecisionLine),
    )


def _read_lines(path: Path, kind: Callable[..., Line]) -> tuple[Line, ...]:
    return parse_lines(kind, read_table(path, remake=REMAKE))


def _predictions(data: ReportData) -> Iterator[Sequence[object]]:
    for model in data.models:
        for row in model.test:
            yield (*model.key, *prediction_cells(row, data.metrics["classes"]))


def _training(models: Sequence[ModelRun], names: Sequence[str]) -> Iterator[Sequence[object]]:
    """Yield one line an epoch of each model; a number that it does not have is empty."""
    for model in models:
        for row in range(max(map(len, model.history.values()), default=0)):
            values = (model.history[name][row] if name in model.history else np.nan for name in names)
            yield (*model.key, row, *("" if np.isnan(value) else float(value) for value in values))


def _read_models(folder: Path, metrics: Metrics) -> tuple[ModelRun, ...]:
    predictions = _by_model(read_table(folder / PREDICTIONS, remake=REMAKE))
    training = _by_model(read_table(folder / TRAINING, remake=REMAKE))
    found = (
        ModelRun(recipe, model["seed"], model["fold"], model["epoch"], history={}, test=())
        for recipe, measured in metrics["recipes"].items()
        for model in measured["models"]
    )
    return tuple(
        model._replace(
            history=_history(training.get(model.key, [])),
            test=tuple(prediction_row(row, metrics["classes"]) for row in predictions.get(model.key, [])),
        )
        for model in found
    )


def _by_model(table: Sequence[Mapping[str, str]]) -> dict[tuple[str, int, int], list[Mapping[str, str]]]:
    keyed = groupby(table, key=lambda row: (row["recipe"], int(row["seed"]), int(row["fold"])))
    return {key: list(rows) for key, rows in keyed}


def _history(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    names = [name for name in (rows[0] if rows else ()) if name not in (*MODEL_COLUMNS, "row")]
    columns = {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}
    return {name: values for name, values in columns.items() if np.isfinite(values).any()}

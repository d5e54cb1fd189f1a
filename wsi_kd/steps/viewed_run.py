"""A run's folder as the viewer shows it: every slide, its status, and what each model says of it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.files import read_json, read_table, sidecar
from wsi_kd.core.records import StatusRow
from wsi_kd.inference.tables import PredictionRow, PredictionTable, read_predictions
from wsi_kd.steps.status import read_status
from wsi_kd.viewer.record import ModelAnswer, ModelKey, Viewed, ViewedSlide, margin

STAGES: Final = ("features", "tiles", "masks")
"""Folders of the per-slide steps, the furthest first: their tables stand in where there is no status.csv."""
MARKS: Final = ("status.csv", "splits.csv", "predictions", *STAGES)
NOT_RUN: Final = "not run"
NO_STATUS: Final = "no step has finished this slide yet"
_MODEL: Final = re.compile(r"([^/]+)/seed([0-9]{1,9})/fold([0-9]{1,9})")


class RunModel(NamedTuple):
    """One model's predictions and where its tiles lie."""

    key: ModelKey
    table: PredictionTable
    rows: Mapping[str, PredictionRow]
    """By slide id, as `tiles`."""
    tiles: Mapping[str, Path]


class Found(NamedTuple):
    """What the run's files say, by slide id."""

    sheet: Mapping[str, SlideRow]
    statuses: Mapping[str, StatusRow]
    labels: Mapping[str, str]
    """Of splits.csv."""
    models: tuple[RunModel, ...]
    classes: tuple[str, ...]


def is_run(folder: Path) -> bool:
    """Tell whether a folder is a run's: some step has left its mark there."""
    return any((folder / mark).exists() for mark in MARKS)


def recorded_title(results_dir: Path) -> str:
    """Return the title that the run's report has; empty where there is no report.

    Raises:
        BadInput: the file that records it is damaged.
    """
    record = sidecar(results_dir / "report" / "slides.csv")
    if not record.is_file():
        return ""
    return str(read_json(record, remake="wsi-kd report")["settings"].get("title", ""))


def view_run(
    results_dir: Path, *, sheet: Sequence[SlideRow], title: str, classes: Sequence[str] = ()
) -> Viewed:
    """Collect what a run left behind; predictions, splits and labels may all be absent.

    Args:
        results_dir: the run.
        sheet: the manifest's rows, which know where the slides are; slides of the run that they do not name
            are listed all the same.
        title: shown above the list.
        classes: in order; empty: as the run's files name them.

    Raises:
        BadInput: a file of the run is damaged or of another version.
    """
    models = tuple(_read_models(results_dir))
    splits = _read_splits(results_dir / "splits.csv")
    found = Found(
        sheet={row.slide_id: row for row in sheet},
        statuses={row.slide_id: row for row in _read_statuses(results_dir)},
        labels=splits.labels,
        models=models,
        classes=tuple(classes or (models[0].table.header["classes"] if models else splits.classes)),
    )
    predicted = [slide_id for model in models for slide_id in model.rows]
    slide_ids = dict.fromkeys([*found.sheet, *found.statuses, *found.labels, *predicted])
    read_with = _slide_settings(results_dir, models)
    report = results_dir / "report" / "index.html"
    return Viewed(
        title=title,
        classes=found.classes,
        models=tuple(model.key for model in models),
        slides=tuple(_slide(slide_id, found) for slide_id in slide_ids),
        root=results_dir,
        background=read_with.get("background", "metadata"),
        color=read_with.get("color", "as_stored"),
        report=report if report.is_file() else None,
    )


def _slide(slide_id: str, found: Found) -> ViewedSlide:
    row, status = found.sheet.get(slide_id), found.statuses.get(slide_id)
    told = [(model, model.rows[slide_id]) for model in found.models if slide_id in model.rows]
    labels = [row.label if row else "", found.labels.get(slide_id, ""), *(said.label for _, said in told)]
    label = next(filter(None, labels), "")
    sites = [row.site if row else "", *(said.site for _, said in told)]
    slide_mpp = status.slide_mpp if status else None
    return ViewedSlide(
        slide_id=slide_id,
        path=row.path if row else None,
        status=str(status.status) if status else NOT_RUN,
        reason=status.reason if status else NO_STATUS,
        step=status.step if status else "",
        label=label,
        site=next(filter(None, sites), ""),
        slide_mpp=slide_mpp or (row.slide_mpp if row else None),
        annotation=row.annotation if row else None,
        answers=tuple(_answer(model, said, label if label in found.classes else "") for model, said in told),
        tiles={model.key.key: model.tiles[slide_id] for model in found.models if slide_id in model.tiles},
    )


def _answer(model: RunModel, said: PredictionRow, label: str) -> ModelAnswer:
    """Judge a model by its student where it has one, else by its teacher."""
    with_student = said.student_probability is not None
    call = said.student_call if with_student else said.teacher_call
    return ModelAnswer(
        model=model.key.key,
        part=said.part,
        teacher=said.teacher_probability,
        student=said.student_probability,
        teacher_call=said.teacher_call,
        student_call=said.student_call,
        thresholds={"teacher": said.threshold_teacher, "student": said.threshold_student},
        right=call == label if label else None,
        uncertain=margin(said.student_probability, said.threshold_student)
        if with_student
        else margin(said.teacher_probability, said.threshold_teacher),
        out_of_distribution=said.out_of_distribution,
    )


def _read_models(results_dir: Path) -> Iterator[RunModel]:
    """Read every model's predictions, in the order of recipe, seed and fold."""
    folder = results_dir / "predictions"
    keyed = []
    for path in folder.glob("*/seed*/fold*/predictions.csv"):
        key = path.parent.relative_to(folder).as_posix()
        named = _MODEL.fullmatch(key)
        if named:
            keyed.append((ModelKey(key, named[1], int(named[2]), int(named[3])), path))
    for model, path in sorted(keyed, key=lambda item: item[0][1:]):
        table = read_predictions(path)
        # Found by listing the folder: no slide id ever becomes part of a path.
        tiles = {tile.name.removesuffix(".csv"): tile for tile in (path.parent / "tiles").glob("*.csv")}
        yield RunModel(model, table, {row.slide_id: row for row in table.rows}, tiles)


def _read_statuses(results_dir: Path) -> list[StatusRow]:
    """Read status.csv; of a run that has not come so far, the tables of the furthest step of each slide."""
    final = results_dir / "status.csv"
    if final.is_file():
        return read_status(final)
    furthest: dict[str, StatusRow] = {}
    for stage in STAGES:
        for table in sorted((results_dir / stage).glob("chunk-*.csv")):
            for row in read_status(table):
                furthest.setdefault(row.slide_id, row)
    return list(furthest.values())


class _Splits(NamedTuple):
    labels: dict[str, str]
    classes: tuple[str, ...]


def _read_splits(path: Path) -> _Splits:
    if not path.is_file():
        return _Splits({}, ())
    remake = "wsi-kd split"
    labels = {row["slide_id"]: row.get("label", "") for row in read_table(path, remake=remake)}
    return _Splits(labels, tuple(read_json(sidecar(path), remake=remake).get("classes", ())))


def _slide_settings(results_dir: Path, models: Sequence[RunModel]) -> dict[str, Any]:
    """Return the settings that the run read its slides with, as its first model tells them."""
    for model in models:
        header = results_dir / "models" / model.key.key / "model.json"
        if header.is_file():
            sections = read_json(header, remake="wsi-kd train").get("sections", {})
            return dict(sections.get("slides", {}))
    return {}

"""Step report: metrics, predictions, histories, slides of a run -> report/index.html, report/metrics.json."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from jaxtyping import Float64

from wsi_kd.bags.manifest import Manifest
from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.files import publish_json, publish_text, read_json, read_table, sidecar
from wsi_kd.core.provenance import check_schema, git_state
from wsi_kd.core.records import SlideStatus
from wsi_kd.evaluation.schema import Metrics
from wsi_kd.inference.export import without_paths
from wsi_kd.inference.tables import TileTable, read_predictions, read_tiles_csv
from wsi_kd.report.build import build_page
from wsi_kd.report.gallery import Chosen, SlideView, choose_slides, slide_card
from wsi_kd.report.page import Card
from wsi_kd.report.record import ModelRun, RunRecord
from wsi_kd.report.render import render_page
from wsi_kd.settings.all import Settings
from wsi_kd.settings.results import ReportSettings
from wsi_kd.slides.icc import Color
from wsi_kd.slides.pyramid import read_thumbnail
from wsi_kd.slides.reader import open_slide
from wsi_kd.steps.status import read_status

COMMANDS = (
    "# the whole run; what is done and unchanged is kept",
    "snakemake -c8 --configfile SETTINGS.yaml",
    "# this page alone",
    "wsi-kd report --config SETTINGS.yaml",
)


class _Slides(NamedTuple):
    """Where the gallery's slides are and how they are read."""

    results_dir: Path
    paths: Mapping[str, Path]
    mpps: Mapping[str, float]
    background: Literal["metadata", "white"]
    color: Color
    heatmap_px: int


def run_report(manifest: Manifest, *, results_dir: Path, settings: Settings) -> Path:
    """Write `report/index.html`, one self-contained page, and `report/metrics.json`; return the page's path.

    Slides are read again for the gallery; one that cannot be read any more is shown without pictures, with
    the reason.

    Args:
        manifest: where the slides are.
        results_dir: the finished run.
        settings: sections `run` (title) and `report` are used.

    Raises:
        BadInput: metrics, predictions or histories that are missing, damaged or of another version.
        RunFailed: a file could not be written.
    """
    metrics = _read_metrics(results_dir / "evaluation" / "metrics.json")
    statuses = tuple(read_status(results_dir / "status.csv"))
    models = tuple(_read_models(results_dir, metrics))
    headers = [_model_header(results_dir, model) for model in models]
    chosen = choose_slides(models, count=settings.report.gallery_slides, negative=metrics["classes"][0])
    slides = _Slides(
        results_dir,
        paths={row.slide_id: row.path for row in manifest.rows},
        mpps={row.slide_id: row.slide_mpp for row in statuses},
        background=headers[0]["sections"]["slides"]["background"] if headers else "metadata",
        color=headers[0]["sections"]["slides"].get("color", "as_stored") if headers else "as_stored",
        heatmap_px=settings.report.heatmap_px,
    )
    record = RunRecord(
        title=settings.run.title,
        metrics=metrics,
        statuses=statuses,
        models=models,
        cards=tuple(_card(one, slides) for one in chosen),
        settings=_recorded_settings(results_dir, metrics, headers=headers, report=settings.report),
        git=git_state(),
        commands=COMMANDS,
    )
    page = results_dir / "report" / "index.html"
    publish_json(results_dir / "report" / "metrics.json", metrics)
    publish_text(page, render_page(build_page(record)))
    return page


def _card(chosen: Chosen, slides: _Slides) -> Card:
    """Describe one slide; the note says why it has no picture."""
    slide_id = chosen.row.slide_id
    tiles_dir = _folder(slides.results_dir, "predictions", model=chosen.model) / "tiles"
    tiles = read_tiles_csv(tiles_dir / f"{slide_id}.csv")
    if slide_id not in slides.paths:
        return slide_card(chosen, None, note="No picture: the manifest does not name this slide any more.")
    try:
        return slide_card(chosen, _view(slide_id, tiles, slides))
    except SlideProblem as problem:
        return slide_card(chosen, None, note=f"No picture: {problem.reason}")


def _view(slide_id: str, tiles: TileTable, slides: _Slides) -> SlideView:
    slide_mpp = slides.mpps[slide_id]
    if not tiles.tile_level0_px:
        raise SlideProblem(SlideStatus.MISSING_FEATURES, "its features came without positions or tile sizes")
    if not slide_mpp:
        raise SlideProblem(SlideStatus.MISSING_MPP, "its resolution is unknown; see the column slide_mpp")
    with open_slide(slides.paths[slide_id], background=slides.background) as reader:
        longer_px = max(reader.bounds.width_level0_px, reader.bounds.height_level0_px)
        thumbnail_mpp = slide_mpp * longer_px / slides.heatmap_px
        thumbnail = read_thumbnail(
            reader, slide_mpp=slide_mpp, thumbnail_mpp=thumbnail_mpp, color=slides.color
        )
    return SlideView(*thumbnail, slide_mpp=slide_mpp, tiles=tiles)


def _read_metrics(path: Path) -> Metrics:
    remake = "wsi-kd evaluate"
    metrics = read_json(path, remake=remake)
    check_schema(metrics, "metrics", where=path, remake=remake)
    return cast("Metrics", metrics)


def _read_models(results_dir: Path, metrics: Metrics) -> Iterator[ModelRun]:
    for recipe, measured in metrics["recipes"].items():
        for model in measured["models"]:
            run = ModelRun(recipe, model["seed"], model["fold"], model["epoch"], history={}, test=())
            predictions = read_predictions(_folder(results_dir, "predictions", model=run) / "predictions.csv")
            yield run._replace(
                history=_read_history(_folder(results_dir, "models", model=run) / "history.csv"),
                test=tuple(row for row in predictions.rows if row.part == "test"),
            )


def _read_history(path: Path) -> dict[str, Float64[np.ndarray, "epochs"]]:
    """Return the columns that hold numbers; an empty cell is NaN."""
    table = read_table(path, remake="wsi-kd train")
    columns = {name: [row[name] for row in table] for name in (table[0] if table else ())}
    return {name: _numbers(cells) for name, cells in columns.items() if all(map(_is_number, cells))}


def _numbers(cells: Sequence[str]) -> Float64[np.ndarray, "epochs"]:
    return np.array([float(cell) if cell else np.nan for cell in cells], dtype=np.float64)


def _is_number(cell: str) -> bool:
    try:
        float(cell or "nan")
    except ValueError:
        return False
    return True


def _model_header(results_dir: Path, model: ModelRun) -> dict[str, Any]:
    path = _folder(results_dir, "models", model=model) / "model.json"
    header = read_json(path, remake="wsi-kd train")
    check_schema(header, "model", where=path, remake="wsi-kd train")
    return header


def _recorded_settings(
    results_dir: Path, metrics: Metrics, *, headers: Sequence[Mapping[str, Any]], report: ReportSettings
) -> dict[str, Any]:
    """Collect each section from the files made with it, paths cut to their names.

    The recipes' training settings may differ.
    """
    split = read_json(sidecar(results_dir / "splits.csv"), remake="wsi-kd split")["settings"]
    train = {header["recipe"]: header["settings"]["train"] for header in reversed(headers)}
    sections = headers[0]["sections"] if headers else {}
    return {
        **without_paths({**sections, **split}),
        "train": {recipe: train[recipe] for recipe in metrics["recipes"]},
        **metrics["settings"],
        "report": report.model_dump(mode="json"),
    }


def _folder(results_dir: Path, kind: str, *, model: ModelRun) -> Path:
    return results_dir / kind / model.recipe / f"seed{model.seed}" / f"fold{model.fold}"

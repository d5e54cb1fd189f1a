"""Step report: a run's metrics, predictions, histories and slides -> report/index.html and its data files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsi_kd.bags.manifest import Manifest
from wsi_kd.core.files import publish_text, read_json, sidecar
from wsi_kd.core.messages import warn
from wsi_kd.core.places import without_paths
from wsi_kd.evaluation.schema import Metrics
from wsi_kd.report.build import build_page
from wsi_kd.report.gallery import slide_card
from wsi_kd.report.gallery_choice import ChosenKey, choose_slides
from wsi_kd.report.page import Card
from wsi_kd.report.record import RunRecord
from wsi_kd.report.render import render_page
from wsi_kd.report.reporting_items import reporting_items
from wsi_kd.settings.all import Settings
from wsi_kd.settings.results import ReportSettings
from wsi_kd.steps.report_files import ReportData, read_report_files, write_report_files
from wsi_kd.steps.report_inputs import read_run
from wsi_kd.steps.report_precision import read_precision
from wsi_kd.steps.report_slides import Seen, look_at, slides_of
from wsi_kd.steps.report_sources import read_sources, tell_changed_truth

COMMANDS = (
    "# the whole run; what is done and unchanged is kept",
    "snakemake -c8 --configfile SETTINGS.yaml",
    "# this page alone",
    "wsi-kd report --config SETTINGS.yaml",
)


def run_report(manifest: Manifest, *, results_dir: Path, settings: Settings) -> Path:
    """Write the data files of `report/`, then from them `report/index.html`, one self-contained page.

    Slides are read again for the gallery; one that cannot be read any more is shown without pictures, with
    the reason.

    Args:
        manifest: where the slides are.
        results_dir: the finished run.
        settings: sections `run` (title) and `report` are used.

    Returns:
        The page's path.

    Raises:
        BadInput: metrics, split, predictions or histories that are missing, damaged or of another version, or
            a case in two parts of a fold.
        RunFailed: a file could not be written.
    """
    run = read_run(results_dir, manifest)
    recorded = _recorded_settings(results_dir, run.metrics, headers=run.headers, report=settings.report)
    slides = slides_of(results_dir, manifest, run, report=settings.report)
    count, negative = settings.report.gallery_slides, run.metrics["classes"][0]
    seen = {
        one.key: look_at(one, slides) for one in choose_slides(run.models, count=count, negative=negative)
    }
    _tell_unseen([one.note for one in seen.values() if one.view is None], shown=len(seen))
    tiles = tuple(tile for one in seen.values() if one.view is not None for tile in one.view.shown)
    made_with = {"title": settings.run.title, "report": settings.report.model_dump(mode="json")}
    sources = read_sources(results_dir, run)
    tell_changed_truth(manifest, sources.splits)
    reporting = reporting_items(sources, settings=made_with)
    precision = read_precision(results_dir, run.metrics)
    folder = results_dir / "report"
    write_report_files(
        folder,
        ReportData(run.metrics, run.models, run.slides, tiles, run.jobs, reporting, precision),
        settings=made_with,
    )
    data = read_report_files(folder)
    record = RunRecord(
        title=settings.run.title,
        metrics=data.metrics,
        slides=data.slides,
        models=data.models,
        jobs=data.jobs,
        cards=_cards(data, seen, count=count),
        settings=recorded,
        git=sources.git,
        commands=COMMANDS,
        reporting=data.reporting,
        precision=data.precision,
    )
    page = folder / "index.html"
    publish_text(page, render_page(build_page(record)))
    return page


def _tell_unseen(notes: Sequence[str], *, shown: int) -> None:
    """Warn how many slides of the gallery have no picture, with the reasons."""
    if notes:
        why = "; ".join(sorted({note.removeprefix("No picture: ") for note in notes}))
        warn(f"report: {len(notes)} of the {shown} slides of the gallery have no picture: {why}")


def _cards(data: ReportData, seen: Mapping[ChosenKey, Seen], *, count: int) -> tuple[Card, ...]:
    """Describe each slide of the gallery by the files' numbers and the slide's pixels."""
    cards = []
    for chosen in choose_slides(data.models, count=count, negative=data.metrics["classes"][0]):
        view, note = seen[chosen.key]
        if view is not None:
            shown = tuple(tile for tile in data.tiles if tile.chosen == chosen.key)
            view = view._replace(shown=shown)
        cards.append(slide_card(chosen, view, note=note))
    return tuple(cards)


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

"""Command qc: the page on which a cohort's slides are looked at."""

from wsi_kd.bags.manifest import chunk_rows
from wsi_kd.cli.layout import Layout, SlideStep
from wsi_kd.cli.options import (
    ConfigFile,
    ManifestFile,
    ResultsDir,
    RowsHash,
    SettingsJson,
    SlidesDir,
    check_rows,
    open_run,
)
from wsi_kd.core.errors import BadInput
from wsi_kd.core.messages import say

STAGES: tuple[SlideStep, ...] = ("embed", "tile", "mask")
"""Steps whose files the page is made from, the furthest first."""


def qc(
    *,
    settings: SettingsJson = None,
    config: ConfigFile = None,
    manifest: ManifestFile = None,
    slides_dir: SlidesDir = None,
    results_dir: ResultsDir = None,
    rows_hash: RowsHash = None,
) -> None:
    """Show the slides: thumbnails with outlines, status, tissue, scanner -> qc/index.html.

    Chunks that have masks alone, or masks and tiles, are shown as far as they are.
    """
    run = open_run(
        settings=settings, config=config, manifest=manifest, slides_dir=slides_dir, results_dir=results_dir
    )
    sheet = run.manifest()
    check_rows(sheet.rows, step="qc", expected=rows_hash)
    from wsi_kd.steps.qc import QcChunk, QcFolders, run_qc

    rows = dict(enumerate(chunk_rows(sheet.rows, run.settings.run.slides_per_job)))
    stages = {number: stage for number in rows if (stage := _stage(run.layout, number))}
    if not stages:
        raise BadInput(f"{run.layout.root}: no slide has a mask yet; find the tissue first: wsi-kd mask")
    page = run_qc(
        [
            QcChunk(rows[number], stage, run.layout.chunk_status(stage, number))
            for number, stage in stages.items()
        ],
        folders=QcFolders(*(run.layout.folder(step) for step in ("mask", "tile", "embed"))),
        out_dir=run.layout.qc.parent,
        settings=run.settings,
        missing=sum(len(rows[number]) for number in rows if number not in stages),
    )
    say(f"qc: {page}")


def _stage(layout: Layout, chunk: int) -> SlideStep | None:
    return next((step for step in STAGES if layout.chunk_status(step, chunk).is_file()), None)

"""Commands that read slides: mask, tile, stain, embed."""

from collections import Counter
from collections.abc import Sequence

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.cli.layout import SlideStep
from wsi_kd.cli.options import (
    Chunk,
    ConfigFile,
    ManifestFile,
    ResultsDir,
    RowsHash,
    Run,
    SettingsJson,
    SlidesDir,
    check_rows,
    open_run,
)
from wsi_kd.core.messages import say
from wsi_kd.core.records import SlideStatus, StatusRow


def mask(
    *,
    settings: SettingsJson = None,
    config: ConfigFile = None,
    manifest: ManifestFile = None,
    slides_dir: SlidesDir = None,
    results_dir: ResultsDir = None,
    chunk: Chunk = None,
    rows_hash: RowsHash = None,
) -> None:
    """Find the tissue: slides -> masks/<slide_id>.geojson."""
    run = open_run(
        settings=settings, config=config, manifest=manifest, slides_dir=slides_dir, results_dir=results_dir
    )
    _work(run, "mask", chunk=chunk, rows_hash=rows_hash)


def tile(
    *,
    settings: SettingsJson = None,
    config: ConfigFile = None,
    manifest: ManifestFile = None,
    slides_dir: SlidesDir = None,
    results_dir: ResultsDir = None,
    chunk: Chunk = None,
    rows_hash: RowsHash = None,
) -> None:
    """Lay the tile grid and label the tiles: masks -> tiles/<slide_id>.h5."""
    run = open_run(
        settings=settings, config=config, manifest=manifest, slides_dir=slides_dir, results_dir=results_dir
    )
    _work(run, "tile", chunk=chunk, rows_hash=rows_hash)


def stain(
    *,
    settings: SettingsJson = None,
    config: ConfigFile = None,
    manifest: ManifestFile = None,
    slides_dir: SlidesDir = None,
    results_dir: ResultsDir = None,
    rows_hash: RowsHash = None,
) -> None:
    """Fit the stains of the whole cohort: tiles -> stain/stain.json (where stain.fit is cohort)."""
    run = open_run(
        settings=settings, config=config, manifest=manifest, slides_dir=slides_dir, results_dir=results_dir
    )
    rows = run.manifest().rows
    check_rows(rows, step="stain", expected=rows_hash)
    from wsi_kd.steps.stain import run_stain

    made = run_stain(
        rows, tiles_dir=run.layout.folder("tile"), stain_path=run.layout.stain, settings=run.settings
    )
    told = made["note"] or f"{sum(made['slides'].values())} pixels of {len(made['slides'])} slides"
    say(f"stain: {told}")


def embed(
    *,
    settings: SettingsJson = None,
    config: ConfigFile = None,
    manifest: ManifestFile = None,
    slides_dir: SlidesDir = None,
    results_dir: ResultsDir = None,
    chunk: Chunk = None,
    rows_hash: RowsHash = None,
) -> None:
    """Describe every tile by a frozen encoder: tiles -> features/<slide_id>.h5."""
    run = open_run(
        settings=settings, config=config, manifest=manifest, slides_dir=slides_dir, results_dir=results_dir
    )
    _work(run, "embed", chunk=chunk, rows_hash=rows_hash)


def _work(run: Run, step: SlideStep, *, chunk: int | None, rows_hash: str | None) -> None:
    chunks = run.chunks(step, chunk=chunk, rows_hash=rows_hash)
    for number, rows in chunks.rows.items():
        statuses = _run_step(run, step, number=number, rows=rows, negative_label=chunks.classes[0])
        say(f"{step}, chunk {number}: {_counts(statuses)}")


def _run_step(
    run: Run, step: SlideStep, *, number: int, rows: Sequence[SlideRow], negative_label: str
) -> list[StatusRow]:
    status_path = run.layout.chunk_status(step, number)
    masks_dir, tiles_dir, features_dir = (run.layout.folder(name) for name in ("mask", "tile", "embed"))
    if step == "mask":
        from wsi_kd.steps.mask import run_mask

        return run_mask(rows, masks_dir=masks_dir, status_path=status_path, settings=run.settings)
    if step == "tile":
        from wsi_kd.steps.tile import run_tile

        return run_tile(
            rows,
            masks_dir=masks_dir,
            tiles_dir=tiles_dir,
            status_path=status_path,
            settings=run.settings,
            negative_label=negative_label,
        )
    from wsi_kd.steps.embed import run_embed

    return run_embed(
        rows,
        tiles_dir=tiles_dir,
        features_dir=features_dir,
        status_path=status_path,
        settings=run.settings,
        stain_path=run.layout.stain,
    )


def _counts(rows: Sequence[StatusRow]) -> str:
    counts = Counter(row.status for row in rows)
    told = ", ".join(f"{counts[status]} {status}" for status in SlideStatus if counts[status])
    return f"{len(rows)} slides: {told}"

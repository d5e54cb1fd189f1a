"""Command adopt: another program's features in the place of mask, tile and embed."""

from collections import Counter

from wsi_kd.bags.tables import listed
from wsi_kd.cli.options import (
    Chunk,
    ConfigFile,
    ManifestFile,
    ResultsDir,
    RowsHash,
    SettingsJson,
    open_run,
)
from wsi_kd.core.errors import BadInput
from wsi_kd.core.messages import say, warn
from wsi_kd.core.records import SlideStatus


def adopt(
    *,
    settings: SettingsJson = None,
    config: ConfigFile = None,
    manifest: ManifestFile = None,
    results_dir: ResultsDir = None,
    chunk: Chunk = None,
    rows_hash: RowsHash = None,
) -> None:
    """Take features that TRIDENT, CLAM, STAMP, ... made: adopt.folder -> features/<slide_id>.h5."""
    run = open_run(settings=settings, config=config, manifest=manifest, results_dir=results_dir)
    if run.settings.adopt.folder is None:
        raise BadInput("adopt.folder: not set; name the folder of the features that another program made")
    from wsi_kd.steps.adopt import run_adopt

    chunks = run.chunks("adopt", chunk=chunk, rows_hash=rows_hash)
    for number, rows in chunks.rows.items():
        statuses = run_adopt(
            rows,
            features_dir=run.layout.folder("embed"),
            status_path=run.layout.chunk_status("embed", number),
            settings=run.settings,
            negative_label=chunks.classes[0],
        )
        counts = Counter(row.status for row in statuses)
        told = ", ".join(f"{counts[status]} {status}" for status in SlideStatus if counts[status])
        say(f"adopt, chunk {number}: {len(statuses)} slides: {told}")
        missing = [row.slide_id for row in statuses if row.status == SlideStatus.MISSING_FEATURES]
        if missing:
            folder = run.settings.adopt.folder
            warn(f"adopt: {len(missing)} slides have no features in {folder}: {listed(missing)}")

"""Features of a whole folder from one layout into another; a killed run goes on where it was."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from wsi_kd.bags.manifest import Manifest, SlideRow
from wsi_kd.core.errors import BadInput, SlideProblem
from wsi_kd.core.files import file_hash, publish_table, read_table
from wsi_kd.core.progress import slide_progress
from wsi_kd.core.provenance import stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.features.foreign_export import EXPORTS, write_foreign
from wsi_kd.features.store import FeatureFile
from wsi_kd.settings.adopt import AdoptSettings
from wsi_kd.settings.all import Settings
from wsi_kd.steps.adopt import (
    OWN_LAYOUT,
    Origin,
    adopt_slide,
    adopted_hash,
    given_folder,
    origin_of,
    run_adopt,
)
from wsi_kd.steps.status import failure, inputs_hash, status_row

STEP = "convert"
TARGETS = (OWN_LAYOUT, *EXPORTS)
JOURNAL = "conversion.csv"
"""What became of every slide, beside files that have no room for a hash of their own."""
STATUS = "status.csv"
SEPARATOR = "//"
SLIDES_A_JOURNAL = 32
"""Slides between two writings of the journal: what a killed run converts again at most."""


class Entry(NamedTuple):
    """One slide in the journal; the fields are its columns."""

    slide_id: str
    status: str
    reason: str
    tiles: str
    inputs_hash: str
    files: str
    """Paths below the folder, joined by `//`, which no path holds."""
    sha256: str


class _Target(NamedTuple):
    """What is written, and by which labels (none without a manifest)."""

    folder: Path
    layout: str
    settings: Settings
    classes: tuple[str, ...]


def run_convert(
    adopt: AdoptSettings,
    dest: Path,
    *,
    to: str,
    manifest: Manifest | None = None,
) -> list[StatusRow]:
    """Convert every slide of `adopt.folder` (or of the manifest), one in memory at a time.

    A converted file that still fits is kept. Each slide ends in a status: `status.csv` beside our own files,
    `conversion.csv` beside another program's. Slides without tiles are not exported.

    Args:
        adopt: where the features are, and what their files do not say.
        dest: folder to write.
        to: `wsi_kd` or a key of `EXPORTS`.
        manifest: the slides wanted, their um/px and labels; None: every slide found.

    Raises:
        BadInput: no features there, or an annotation that cannot label tiles.
        RunFailed: a file could not be written.
    """
    settings = Settings(adopt=adopt)
    found = given_folder(adopt)
    rows = _rows(found.slides) if manifest is None else manifest.rows
    classes = () if manifest is None else manifest.classes
    if to == OWN_LAYOUT:
        return run_adopt(
            rows,
            features_dir=dest,
            status_path=dest / STATUS,
            settings=settings,
            negative_label=classes[0] if classes else None,
        )
    target = _Target(dest, to, settings, classes)
    journal = _read_journal(dest / JOURNAL)
    statuses = []
    try:
        with slide_progress(STEP, total=len(rows)) as finish:
            for count, row in enumerate(rows, start=1):
                started = time.perf_counter()
                journal[row.slide_id] = _entry(origin_of(row, found), target, journal.get(row.slide_id))
                statuses.append(_status(journal[row.slide_id], row, seconds=time.perf_counter() - started))
                finish(statuses[-1])
                if count % SLIDES_A_JOURNAL == 0:
                    _write_journal(dest / JOURNAL, journal)
    finally:
        if statuses:
            _write_journal(dest / JOURNAL, journal)
    return statuses


def _entry(origin: Origin, target: _Target, former: Entry | None) -> Entry:
    negative = target.classes[0] if target.classes else None
    label = target.classes.index(origin.row.label) if target.classes else None
    adopted = adopted_hash(origin, target.settings, negative_label=negative)
    expected = inputs_hash(STEP, {"to": target.layout, "label": label, "adopted": adopted})
    if former is not None and former.inputs_hash == expected and _is_whole(former, target.folder):
        return former
    features = adopt_slide(origin, target.settings, negative_label=negative)
    try:
        files = _export(features, target, label=label)
    except SlideProblem as problem:
        features.header.update(failure(problem.status, problem.reason, step=STEP))
        files = []
    return Entry(
        slide_id=origin.row.slide_id,
        status=features.header["status"],
        reason=features.header["reason"],
        tiles=str(len(features.coords)),
        inputs_hash=expected,
        files=SEPARATOR.join(str(path.relative_to(target.folder)) for path in files),
        sha256=SEPARATOR.join(file_hash(path) for path in files),
    )


def _export(features: FeatureFile, target: _Target, *, label: int | None) -> list[Path]:
    if features.header["status"] != SlideStatus.OK:
        return []
    return write_foreign(target.folder, features, layout=target.layout, label=label)


def _is_whole(entry: Entry, dest: Path) -> bool:
    """Tell whether the files of an entry are there as they were written."""
    hashes = [value for value in entry.sha256.split(SEPARATOR) if value]
    paths = [dest / name for name in entry.files.split(SEPARATOR) if name]
    return all(path.is_file() for path in paths) and [file_hash(path) for path in paths] == hashes


def _rows(slides: Mapping[str, object]) -> tuple[SlideRow, ...]:
    """Make a row a slide where no manifest names any."""
    return tuple(SlideRow(slide_id, Path(slide_id), "", slide_id, "", None, None, "") for slide_id in slides)


def _status(entry: Entry, row: SlideRow, *, seconds: float) -> StatusRow:
    header = {
        "slide_id": row.slide_id,
        "status": entry.status,
        "reason": entry.reason,
        "tissue_mm2": 0.0,
        "slide_mpp": row.slide_mpp or 0.0,
        "mpp_source": "",
    }
    return status_row(header, step=STEP, tiles=int(entry.tiles), seconds=seconds)


def _read_journal(path: Path) -> dict[str, Entry]:
    if not path.is_file():
        return {}
    try:
        records = read_table(path, remake="wsi-kd features convert")
        return {record["slide_id"]: Entry(**record) for record in records}
    except (BadInput, TypeError, KeyError):
        return {}  # cut off or of another kind: everything is converted again


def _write_journal(path: Path, journal: Mapping[str, Entry]) -> None:
    entries: Sequence[Entry] = [journal[slide_id] for slide_id in sorted(journal)]
    publish_table(path, Entry._fields, entries, stamp=stamp("conversion", {}))

"""Status tables (one line a slide) and the hashes by which a step knows that a slide's file still fits."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wsi_kd import __version__
from wsi_kd.bags.manifest import SlideRow
from wsi_kd.bags.slide_files import slide_id_of, told_name
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import content_hash, publish_table, read_json, read_table, sidecar
from wsi_kd.core.provenance import SCHEMA_VERSION, check_schema, schema_version
from wsi_kd.core.records import SlideStatus, StatusRow

KIND = "status"
DROPPED_COLUMNS = ("dropped_pen", "dropped_background", "dropped_blurred")
SHORTEST_NAME = 4
"""Letters of a file's name that are looked for in a reason; fewer would be found in other words."""
REMAKE = "snakemake (or the command of the step that wrote it)"


def write_status(path: Path, rows: Iterable[StatusRow], stamp: Mapping[str, Any]) -> None:
    """Write a status table and its sidecar; `stamp` comes from `core.provenance.stamp`."""
    stamp = {**stamp, "kind": KIND, "schema_version": schema_version(KIND)}
    publish_table(path, StatusRow._fields, rows, stamp=stamp)


def read_status(path: Path) -> list[StatusRow]:
    """Read a status table, checked against its sidecar.

    Raises:
        BadInput: absent, changed, or with a value that no step writes.
    """
    check_schema(read_json(sidecar(path), remake=REMAKE), KIND, where=path, remake=REMAKE)
    return [
        _parse(record, where=f"{path}: line {line}")
        for line, record in enumerate(read_table(path, remake=REMAKE), start=2)
    ]


def status_row(header: Mapping[str, Any], *, step: str, tiles: int, seconds: float) -> StatusRow:
    """Make a slide's line from its file's header; `step` becomes the step that failed, where one did."""
    return StatusRow(
        slide_id=str(header["slide_id"]),
        status=SlideStatus(header["status"]),
        reason=str(header["reason"]),
        step=str(header.get("failed_in") or step),
        tiles=tiles,
        tissue_mm2=float(header["tissue_mm2"]),
        slide_mpp=float(header["slide_mpp"]),
        mpp_source=str(header["mpp_source"]),
        seconds=round(seconds, 3),
        tiles_laid=int(header.get("tiles_laid", tiles)),
        dropped_damaged=int(header.get("damaged_tiles", 0)),
        **{name: int(header.get(name, 0)) for name in DROPPED_COLUMNS},
    )


def failure(status: SlideStatus, reason: str, *, step: str) -> dict[str, Any]:
    """Return the header entries of a slide that failed in `step`; the reason is one line."""
    return {"status": str(status), "reason": " ".join(reason.split()), "failed_in": step}


def unnamed(text: str, row: SlideRow) -> str:
    """Return a reason without the slide's folder and, where it says more than the id, its file's name.

    Readers quote both in what they say of a damaged file; either may name a patient.
    """
    path, told = row.path, told_name(row.slide_id, row.path)
    for name in (str(path.absolute()), str(path), path.name):
        text = text.replace(name, told)
    for folder in (str(path.parent.absolute()), str(path.parent)):
        if len(folder) > 1:  # neither "/" nor "."
            text = text.replace(f"{folder}/", "")
    stem = slide_id_of(path)
    if stem == row.slide_id or len(stem) < SHORTEST_NAME:
        return text
    return text.replace(stem, row.slide_id)


def kept_under(header: Mapping[str, Any], expected: str, *, step: str) -> str:
    """Return the hash under which a slide's file is kept: none where reading crashed in this very step.

    What crashed of a scarce memory or an old library is tried again whenever the step runs again.
    """
    crashed_here = header["status"] == SlideStatus.READER_CRASHED and header.get("failed_in") == step
    return "" if crashed_here else expected


def joined_notes(*notes: str) -> str:
    """Join what is to be told of a slide that is ok; empty notes are left out.

    >>> joined_notes("", "resolution in doubt", "stains not normalized")
    'resolution in doubt; stains not normalized'
    """
    return "; ".join(note for note in notes if note)


def inputs_hash(step: str, inputs: Mapping[str, Any]) -> str:
    """Return the sha256 of all that a slide's file follows from, with this version of the package."""
    made_by = {"step": step, "schema_version": SCHEMA_VERSION, "wsi_kd": __version__}
    return content_hash({**made_by, "inputs": dict(inputs)})


def _parse(record: Mapping[str, str], *, where: str) -> StatusRow:
    try:
        return StatusRow(
            slide_id=record["slide_id"],
            status=SlideStatus(record["status"]),
            reason=record["reason"],
            step=record["step"],
            tiles=int(record["tiles"]),
            tissue_mm2=float(record["tissue_mm2"]),
            slide_mpp=float(record["slide_mpp"]),
            mpp_source=record["mpp_source"],
            seconds=float(record["seconds"]),
            tiles_laid=int(record["tiles_laid"]),
            dropped_damaged=int(record["dropped_damaged"]),
            **{name: int(record[name]) for name in DROPPED_COLUMNS},
        )
    except (KeyError, ValueError) as error:
        raise BadInput(
            f"{where}: {error} does not belong into a status table; make it with: {REMAKE}"
        ) from None

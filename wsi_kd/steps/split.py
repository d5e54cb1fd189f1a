"""Step split: status tables and manifest -> status.csv (each slide once) and splits.csv (who is where)."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from wsi_kd.bags.manifest import PARTS, Manifest, SlideRow
from wsi_kd.bags.splits import Fold, plan_folds
from wsi_kd.bags.tables import listed
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish_table, read_json, read_table, sidecar
from wsi_kd.core.messages import say, warn
from wsi_kd.core.places import without_paths
from wsi_kd.core.provenance import check_schema, stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.settings.all import Settings
from wsi_kd.steps.status import read_status, write_status

EXCLUDED = "excluded"
REMAKE = "wsi-kd split"


class SplitRow(NamedTuple):
    """One slide of splits.csv."""

    slide_id: str
    case_id: str
    label: str


class Splits(NamedTuple):
    """What splits.csv and its sidecar hold."""

    folds: tuple[Fold, ...]
    classes: tuple[str, ...]
    """Labels in order, the negative one first."""
    rows: tuple[SplitRow, ...]
    """Every slide of the manifest, excluded ones too."""


def run_split(
    manifest: Manifest,
    *,
    status_paths: Sequence[Path],
    splits_path: Path,
    status_path: Path,
    settings: Settings,
) -> Splits:
    """Join the embed step's status tables, plan the folds over slides with status ok, and write both tables.

    Args:
        manifest: every slide, and the classes in order.
        status_paths: status tables that together name every slide once.
        splits_path: `slide_id,case_id,label,fold_0,...` with train, val, test or excluded.
        status_path: the status of every slide, in the manifest's order.
        settings: section `split` is used.

    Raises:
        BadInput: slides without a status or with two, and whatever `plan_folds` refuses.
    """
    statuses = _statuses(manifest, status_paths)
    described = stamp("splits", without_paths({"split": settings.split.model_dump(mode="json")}))
    write_status(status_path, statuses, described)
    _tell_excluded(statuses)
    folds = plan_folds(
        manifest.rows,
        folds=settings.split.folds,
        seed=settings.split.seed,
        given=settings.split.given,
        excluded=[row.slide_id for row in statuses if row.status != SlideStatus.OK],
    )
    _tell_unplaced(statuses, folds)
    columns = ["slide_id", "case_id", "label", *(f"fold_{index}" for index in range(len(folds)))]
    publish_table(
        splits_path,
        columns,
        _table(manifest.rows, folds),
        stamp={**described, "classes": list(manifest.classes)},
    )
    rows = tuple(SplitRow(row.slide_id, row.case_id, row.label) for row in manifest.rows)
    return Splits(tuple(folds), manifest.classes, rows)


def read_splits(path: Path) -> Splits:
    """Read splits.csv as `run_split` wrote it.

    Raises:
        BadInput: absent, changed by hand, or of another schema; the remedy is `wsi-kd split`.
    """
    header = read_json(sidecar(path), remake=REMAKE)
    check_schema(header, "splits", where=path, remake=REMAKE)
    table = read_table(path, remake=REMAKE)
    columns = [name for name in table[0] if name.startswith("fold_")]
    folds = tuple(
        Fold(*(tuple(sorted(row["slide_id"] for row in table if row[column] == part)) for part in PARTS))
        for column in columns
    )
    rows = tuple(SplitRow(row["slide_id"], row["case_id"], row["label"]) for row in table)
    return Splits(folds, tuple(header["classes"]), rows)


def read_fold(path: Path, fold: int) -> Fold:
    """Read one fold of the splits.

    Raises:
        BadInput: as `read_splits`; there is no such fold.
    """
    folds = read_splits(path).folds
    if not 0 <= fold < len(folds):
        raise BadInput(f"{path}: no fold {fold}; it holds folds 0 to {len(folds) - 1}")
    return folds[fold]


def _statuses(manifest: Manifest, status_paths: Sequence[Path]) -> list[StatusRow]:
    """Return one status a slide, in the manifest's order."""
    found = [row for path in status_paths for row in read_status(path)]
    counts = Counter(row.slide_id for row in found)
    named = {row.slide_id for row in manifest.rows}
    faults = {
        "without a status": [row.slide_id for row in manifest.rows if row.slide_id not in counts],
        "with more than one status": [slide_id for slide_id, count in counts.items() if count > 1],
        "that the manifest does not hold": [slide_id for slide_id in counts if slide_id not in named],
    }
    told = [f"slides {fault}: {listed(slide_ids)}" for fault, slide_ids in faults.items() if slide_ids]
    if told:
        raise BadInput(
            f"the status tables do not fit the manifest; {'; '.join(told)}; run anew: wsi-kd embed"
        )
    status_of = {row.slide_id: row for row in found}
    return [status_of[row.slide_id] for row in manifest.rows]


def _tell_excluded(statuses: Sequence[StatusRow]) -> None:
    failed = Counter(str(row.status) for row in statuses if row.status != SlideStatus.OK)
    why = ", ".join(f"{count} {status}" for status, count in sorted(failed.items()))
    line = f"split: {sum(failed.values())} of {len(statuses)} slides are excluded"
    if why:
        warn(f"{line}: {why}")
    else:
        say(line)


def _tell_unplaced(statuses: Sequence[StatusRow], folds: Sequence[Fold]) -> None:
    placed = {slide_id for fold in folds for part in fold for slide_id in part}
    unplaced = [
        row.slide_id for row in statuses if row.status == SlideStatus.OK and row.slide_id not in placed
    ]
    if unplaced:
        told = f"{len(unplaced)} usable slides stand in no part of the given splits"
        warn(f"split: {told}: {listed(unplaced)}")


def _table(rows: Sequence[SlideRow], folds: Sequence[Fold]) -> list[list[str]]:
    parts = [
        {slide_id: name for name, slide_ids in fold._asdict().items() for slide_id in slide_ids}
        for fold in folds
    ]
    return [
        [row.slide_id, row.case_id, row.label, *(part.get(row.slide_id, EXCLUDED) for part in parts)]
        for row in rows
    ]

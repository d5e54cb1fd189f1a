"""Step split: status tables and manifest -> status.csv (each slide once) and splits.csv (who is where)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from wsi_kd.bags.manifest import PARTS, Manifest, SlideRow
from wsi_kd.bags.splits import Fold, plan_folds
from wsi_kd.bags.tables import listed
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import content_hash, publish_table, read_json, read_table, sidecar
from wsi_kd.core.messages import say, warn
from wsi_kd.core.places import without_paths
from wsi_kd.core.provenance import check_schema, stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.settings.all import Settings
from wsi_kd.steps.same_slides import read_fingerprints, refuse_copies_across_parts, same_files
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
    features_dir: Path | None = None,
) -> Splits:
    """Join the embed step's status tables, plan the folds over slides with status ok, and write both tables.

    Args:
        manifest: every slide, and the classes in order.
        status_paths: status tables that together name every slide once.
        splits_path: `slide_id,case_id,label,fold_0,...` with train, val, test or excluded.
        status_path: the status of every slide, in the manifest's order.
        settings: section `split` is used.
        features_dir: the slides' features, whose headers tell copies of one file; None: nobody looks.

    Raises:
        BadInput: slides without a status or with two, whatever `plan_folds` refuses, and one file under
            several ids in two parts of a fold.
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
    if features_dir is not None:
        _check_copies([row.slide_id for row in statuses if row.status == SlideStatus.OK], features_dir, folds)
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


def seen_hash(fold: Fold) -> str:
    """Return the hash of what a model of this fold has seen: the slides trained on, those selected on."""
    return content_hash([sorted(fold.train), sorted(fold.val)])


def check_seen(header: Mapping[str, Any], fold: Fold, *, where: Path) -> None:
    """Refuse a checkpoint that saw other slides than those that `fold` names.

    Args:
        header: of the checkpoint; one of a version that did not tell is taken.
        fold: that of the same number in the split of now.
        where: for the message.

    Raises:
        BadInput: slides that it was trained on may be tested on.
    """
    if header.get("seen_sha256") not in {None, seen_hash(fold)}:
        raise BadInput(
            f"{where}: the model was trained or selected on other slides than fold {header['fold']} of "
            "splits.csv names now: test slides would leak; train anew with: wsi-kd train"
        )


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


def _check_copies(slide_ids: Sequence[str], features_dir: Path, folds: Sequence[Fold]) -> None:
    copies = same_files(read_fingerprints(slide_ids, features_dir))
    refuse_copies_across_parts(folds, copies)
    if copies:
        told = listed(" = ".join(group) for group in copies)
        warn(f"split: the same slide file under several ids, so it counts more than once: {told}")


def _table(rows: Sequence[SlideRow], folds: Sequence[Fold]) -> list[list[str]]:
    parts = [
        {slide_id: name for name, slide_ids in fold._asdict().items() for slide_id in slide_ids}
        for fold in folds
    ]
    return [
        [row.slide_id, row.case_id, row.label, *(part.get(row.slide_id, EXCLUDED) for part in parts)]
        for row in rows
    ]

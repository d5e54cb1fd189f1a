"""Splits of other programs -> one table of folds: CLAM, Patho-Bench, tables by case, STAMP's splits.json."""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from wsi_kd.bags.given_splits import given_slide_ids, read_given_parts
from wsi_kd.bags.manifest import PARTS, SlideRow
from wsi_kd.bags.splits import Fold, check_folds, fold_of_parts, refuse_folds_without_val
from wsi_kd.bags.tables import listed, read_text_table
from wsi_kd.core.errors import BadInput, unknown_name

TRAIN, VAL, TEST = PARTS
_FOLD_COLUMN = re.compile(r"fold_(\d+)")
_STAMP_PARTS = {"train_patients": TRAIN, "val_patients": VAL, "test_patients": TEST}


class ImportedSplits(NamedTuple):
    """Folds, and what did not fit."""

    folds: list[Fold]
    unknown: tuple[str, ...]
    """Slides or cases that the splits name and the manifest does not hold."""
    unplaced: tuple[str, ...]
    """Slides of the manifest that stand in no part of any fold."""


def import_splits(
    path: Path,
    rows: Sequence[SlideRow],
    *,
    val_share: float = 0.0,
    seed: int = 0,
    allow_unknown: bool = False,
) -> ImportedSplits:
    """Read splits of another program and check them against the manifest's cases.

    Args:
        path: CLAM's folder, a table with `fold_<i>` columns by slide or by case, or STAMP's splits.json.
        rows: the manifest's slides.
        val_share: share of the train cases drawn for val in folds that have none (STAMP and Patho-Bench keep
            only train and test); 0: folds are taken as they are.
        seed: of that draw.
        allow_unknown: leave out what the manifest does not hold, instead of refusing it.

    Raises:
        BadInput: nothing to read, unknown ids, a case in two parts (each is named), or a part of a fold that
            lacks a class.
    """
    if path.suffix == ".json":
        parts, named = _stamp(path, rows)
    elif not path.is_dir() and "slide_id" not in read_text_table(path).columns:
        parts, named = _by_case(path, rows)
    else:
        ids = {row.slide_id for row in rows}
        parts = read_given_parts(path, ids, allow_unknown=True)  # refused below, with the remedy
        named = [name for name in given_slide_ids(path) if name not in ids]
    if named and not allow_unknown:
        raise BadInput(
            f"{path}: {len(named)} ids that the manifest does not hold: {listed(named)}; add them, or leave "
            "them out with --allow-unknown"
        )
    if val_share:
        parts = [_with_val(fold, rows, share=val_share, seed=seed + i) for i, fold in enumerate(parts)]
    folds = [fold_of_parts(fold) for fold in parts]
    refuse_folds_without_val(folds, where=path)
    check_folds(folds, rows, sorted({row.label for row in rows}))
    placed = {slide_id for fold in folds for part in fold for slide_id in part}
    unplaced = tuple(row.slide_id for row in rows if row.slide_id not in placed)
    return ImportedSplits(folds, tuple(named), unplaced)


def _stamp(path: Path, rows: Sequence[SlideRow]) -> tuple[list[dict[str, str]], list[str]]:
    """Read `{"splits": [{"train_patients": [...], "test_patients": [...]}, ...]}`; patients are cases."""
    expected = 'expected STAMP\'s {"splits": [{"train_patients": [...], "test_patients": [...]}, ...]}'
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))["splits"]
        found = [
            [(str(case), part) for key, part in _STAMP_PARTS.items() for case in _listed_cases(split, key)]
            for split in splits
        ]
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; {expected}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadInput(f"{path}: not readable; {expected}") from None
    if not found:
        raise BadInput(f"{path}: holds no split; {expected}")
    return _slides_of_cases(path, found, rows)


def _listed_cases(split: Mapping[str, Any], key: str) -> list[Any]:
    """Return a part's list; a single text would be taken apart into letters."""
    cases = split.get(key, [])
    if not isinstance(cases, list):
        raise TypeError(key)
    return cases


def _by_case(path: Path, rows: Sequence[SlideRow]) -> tuple[list[dict[str, str]], list[str]]:
    table = read_text_table(path)
    columns = sorted((name for name in table.columns if _FOLD_COLUMN.fullmatch(name)), key=_fold_number)
    if "case_id" not in table.columns or [_fold_number(name) for name in columns] != [*range(len(columns))]:
        raise BadInput(f"{path}: line 1: expected slide_id or case_id, and fold_0,fold_1,... without gaps")
    if not columns:
        raise BadInput(f"{path}: line 1: no columns fold_0,fold_1,...")
    found: list[list[tuple[str, str]]] = []
    for column in columns:
        pairs = [(row.cells["case_id"], row.cells[column]) for row in table.rows]
        strange = [part for _, part in pairs if part not in {*PARTS, "", "excluded"}]
        if strange:
            raise BadInput(f"{path}: column {column}: {unknown_name('part', strange[0], PARTS)}")
        found.append([(case, part) for case, part in pairs if part in PARTS])
    return _slides_of_cases(path, found, rows)


def _fold_number(column: str) -> int:
    return int(column.removeprefix("fold_"))


def _slides_of_cases(
    path: Path, folds: Sequence[Sequence[tuple[str, str]]], rows: Sequence[SlideRow]
) -> tuple[list[dict[str, str]], list[str]]:
    slides: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        slides[row.case_id].append(row.slide_id)
    found = []
    for index, pairs in enumerate(folds):
        parts: dict[str, set[str]] = defaultdict(set)
        for case, part in pairs:
            parts[case].add(part)
        leaks = [
            f"{case} ({' and '.join(sorted(named))})" for case, named in parts.items() if named - {min(named)}
        ]
        if leaks:
            raise BadInput(f"{path}: fold {index} leaks: cases in more than one part: {listed(leaks)}")
        found.append({slide: min(named) for case, named in parts.items() for slide in slides.get(case, ())})
    cases = dict.fromkeys(case for pairs in folds for case, _ in pairs)
    return found, [case for case in cases if case not in slides]


def _with_val(parts: dict[str, str], rows: Sequence[SlideRow], *, share: float, seed: int) -> dict[str, str]:
    """Move a share of the train cases of each kind (one at least) to val, where a fold has no val."""
    if VAL in parts.values():
        return parts
    kinds: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if parts.get(row.slide_id) == TRAIN:
            kinds[row.case_id].add(row.label)
    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for case, labels in kinds.items():
        strata[tuple(sorted(labels))].append(case)
    moved: set[str] = set()
    for cases in strata.values():
        ordered = sorted(cases, key=lambda case: hashlib.sha256(f"{seed}\n{case}".encode()).hexdigest())
        moved.update(ordered[: max(1, round(share * len(cases)))])
    case_of = {row.slide_id: row.case_id for row in rows}
    return {
        slide: VAL if part == TRAIN and case_of[slide] in moved else part for slide, part in parts.items()
    }

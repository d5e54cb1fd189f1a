"""Splits made elsewhere: CLAM's folder of `splits_<i>.csv`, or one table with `fold_<i>` columns.

CLAM writes each fold twice, as lists of ids and as `splits_<i>_bool.csv` (one row a slide, True in its part);
either is read, the lists before the others. Patho-Bench's `k=all.tsv` is a table with `fold_<i>` columns.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from pathlib import Path

from wsi_kd.bags.manifest import PARTS
from wsi_kd.bags.slide_files import slide_id_of
from wsi_kd.bags.tables import Table, listed, read_text_table
from wsi_kd.core.errors import BadInput, unknown_name

_LISTS, _MARKS = "splits_{}.csv", "splits_{}_bool.csv"
_CLAM_FILES = {_LISTS: re.compile(r"splits_(\d+)\.csv"), _MARKS: re.compile(r"splits_(\d+)_bool\.csv")}
_TRUE, _FALSE = ("true", "1", "1.0"), ("false", "0", "0.0", "")
_FOLD_COLUMN = re.compile(r"fold_(\d+)")
_OUT = ("", "excluded")


def read_given_parts(
    path: Path, slide_ids: Collection[str], *, allow_unknown: bool = False
) -> list[dict[str, str]]:
    """Return, for each fold, the part (train, val or test) of every slide that has one.

    Ids may carry a file ending, as CLAM's do at times. Extra columns are left alone.

    Args:
        path: a folder or a table.
        slide_ids: those of the manifest.
        allow_unknown: leave out ids that the manifest does not hold, instead of refusing them.

    Raises:
        BadInput: nothing to read, gaps in the numbering, unknown parts or slide ids, an id in two parts.
    """
    if path.is_dir():
        return [_clam_parts(file, slide_ids, allow_unknown=allow_unknown) for file in given_files(path)]
    table = read_text_table(path)
    columns = _fold_columns(table)
    ids = [_nfc(row.cells["slide_id"]) for row in table.rows]
    known = _resolve(path, ids, slide_ids, allow_unknown=allow_unknown)
    _refuse_repeated(path, [known[slide_id] for slide_id in ids if slide_id in known])
    folds: list[dict[str, str]] = [{} for _ in columns]
    for row, slide_id in zip(table.rows, ids, strict=True):
        if slide_id not in known:
            continue
        for fold, column in zip(folds, columns, strict=True):
            part = row.cells[column]
            if part in _OUT:
                continue
            if part not in PARTS:
                fault = unknown_name("part", part, (*PARTS, "excluded"))
                raise BadInput(f"{path}: line {row.line}, column {column}: {fault}")
            fold[known[slide_id]] = part
    return folds


def given_slide_ids(path: Path) -> list[str]:
    """List every id that given splits name, in their order, without slides' endings."""
    named: list[str] = []
    for file in given_files(path):
        table = read_text_table(file)
        if path.is_dir():
            named += [slide_id for slide_id, _ in _placed(table)]
        else:
            _fold_columns(table)
            named += [row.cells["slide_id"] for row in table.rows]
    return list(dict.fromkeys(slide_id_of(Path(_nfc(name))) for name in named if name))


def count_given_folds(path: Path) -> int:
    """Tell how many folds a folder or table of given splits holds."""
    return len(given_files(path)) if path.is_dir() else len(_fold_columns(read_text_table(path)))


def given_files(path: Path) -> list[Path]:
    """List the files that given splits are read from: a table itself, or a folder's CLAM files by fold."""
    if not path.is_dir():
        return [path]
    for name, pattern in _CLAM_FILES.items():
        numbered = {int(match[1]): file for file in path.iterdir() if (match := pattern.fullmatch(file.name))}
        if numbered:
            _refuse_gaps(path, numbered, name)
            return [numbered[index] for index in sorted(numbered)]
    raise BadInput(f"{path}: no splits_0.csv, splits_1.csv, ... in this folder")


def _clam_parts(path: Path, slide_ids: Collection[str], *, allow_unknown: bool) -> dict[str, str]:
    placed = _placed(read_text_table(path))
    known = _resolve(path, [named for named, _ in placed], slide_ids, allow_unknown=allow_unknown)
    _refuse_repeated(path, [known[named] for named, _ in placed if named in known])
    return {known[named]: part for named, part in placed if named in known}


def _placed(table: Table) -> list[tuple[str, str]]:
    """List the ids of one of CLAM's files with their parts."""
    missing = [part for part in PARTS if part not in table.columns]
    if missing:
        raise BadInput(
            f"{table.path}: line 1: no column {listed(missing)}; expected train,val,test with slide ids below"
        )
    if _CLAM_FILES[_MARKS].fullmatch(table.path.name):
        return _marked(table)
    return [(_nfc(row.cells[part]), part) for part in PARTS for row in table.rows if row.cells[part]]


def _marked(table: Table) -> list[tuple[str, str]]:
    """Read one row a slide, its id in the first column and True below the part it is in."""
    placed = []
    for row in table.rows:
        marks = {part: row.cells[part].casefold() for part in PARTS}
        strange = [value for value in marks.values() if value not in {*_TRUE, *_FALSE}]
        if strange:
            raise BadInput(f"{table.path}: line {row.line}: '{strange[0]}'; expected True or False")
        name = _nfc(row.cells[table.columns[0]])
        placed += [(name, part) for part, mark in marks.items() if mark in _TRUE]
    return placed


def _fold_columns(table: Table) -> list[str]:
    numbered = {int(match[1]): name for name in table.columns if (match := _FOLD_COLUMN.fullmatch(name))}
    if "slide_id" not in table.columns or not numbered:
        found = listed(repr(name) for name in table.columns)
        raise BadInput(
            f"{table.path}: line 1: expected the columns slide_id,fold_0,fold_1,...; found {found}"
        )
    _refuse_gaps(table.path, numbered, "fold_{}")
    return [numbered[index] for index in sorted(numbered)]


def _refuse_gaps(path: Path, numbers: Collection[int], name: str) -> None:
    absent = [name.format(index) for index in range(len(numbers)) if index not in numbers]
    if absent:
        raise BadInput(f"{path}: folds are numbered from 0 without gaps; missing: {listed(absent)}")


def _resolve(
    path: Path, named: Iterable[str], slide_ids: Collection[str], *, allow_unknown: bool
) -> dict[str, str]:
    """Map ids as written to the manifest's; unknown ones are refused, or absent from the map."""
    distinct = dict.fromkeys(named)
    known = {
        name: name if name in slide_ids else slide_id_of(Path(name))
        for name in distinct
        if name in slide_ids or (name and slide_id_of(Path(name)) in slide_ids)
    }
    unknown = [name for name in distinct if name not in known]
    if unknown and not allow_unknown:
        near = get_close_matches(unknown[0], sorted(slide_ids), n=1, cutoff=0.6)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        told = listed(repr(name) for name in unknown)
        raise BadInput(f"{path}: {len(unknown)} slide ids that the manifest does not hold: {told}{hint}")
    return known


def _refuse_repeated(path: Path, slide_ids: Iterable[str]) -> None:
    twice = [slide_id for slide_id, count in Counter(slide_ids).items() if count > 1]
    if twice:
        raise BadInput(f"{path}: slides named more than once: {listed(twice)}; keep one part for each")


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)

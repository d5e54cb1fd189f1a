"""The manifest (slides.csv): which slides there are, whose they are, and what they are labeled."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from wsi_kd.bags.manifest_checks import (
    KNOWN_COLUMNS,
    check_case_ids,
    check_columns,
    check_labels,
    check_slide_ids,
    clashes,
    refuse_guessed_order,
)
from wsi_kd.bags.manifest_files import is_address, local_copy, refuse_missing_files, refuse_shared_files
from wsi_kd.bags.manifest_paths import nfc, with_ids_as_paths, with_paths
from wsi_kd.bags.slide_files import (
    is_folder,
    is_regular_file,
    is_slide_folder,
    is_slide_path,
    same_name_key,
    slide_id_fault,
    slide_id_of,
    slides_in,
)
from wsi_kd.bags.slide_search import given_paths
from wsi_kd.bags.tables import Table, TableRow, listed, read_text_table
from wsi_kd.core.errors import BadInput, unknown_name

PARTS = ("train", "val", "test")
TABLE_SUFFIXES = (".csv", ".tsv")


class SlideRow(NamedTuple):
    """One slide of a manifest; text is stripped and in Unicode form NFC."""

    slide_id: str
    path: Path
    label: str
    """Empty only for inference, and of slides that the manifest's column split puts into the test part."""
    case_id: str
    """The patient; the slide's own id where the manifest names none."""
    split: str
    """train, val, test or empty."""
    slide_mpp: float | None
    """Resolution in um/px that overrides the metadata."""
    annotation: Path | None
    site: str
    extra: tuple[tuple[str, str], ...] = ()
    """Columns that only evaluate looks at (its subgroups): name and cell of each."""
    address: str = ""
    """Where the slide lies in storage (`s3://bucket/key`); `path` is then where Snakemake copies it to."""


class Manifest(NamedTuple):
    """Every slide in the file's order, and the classes in order (the negative one first)."""

    rows: tuple[SlideRow, ...]
    classes: tuple[str, ...]


def read_manifest(
    path: Path,
    *,
    slides_dir: Path | None,
    classes: Sequence[str],
    with_slides: bool = True,
    look_for_files: bool = True,
    rows: slice | None = None,
) -> Manifest:
    """Read a manifest and check all of it, so that no fault shows up hours later.

    Columns: `slide_id,path,label` or, as in CLAM, `slide_id,label` with `slides_dir`, where a slide's file is
    found by its id; optional `case_id,split,slide_mpp,annotation,site`; others can be subgroups of evaluate.
    Relative paths start from `slides_dir` where it is given, else from the manifest's folder. A label may be
    missing where the column split says test: such slides are scored and not measured.

    Args:
        path: the CSV (or .tsv) file.
        slides_dir: folder of the slides.
        classes: labels in order; empty: the labels found, sorted, if that puts `normal` and the like first.
        with_slides: False where features are given: the column path is optional and its files need not be
            there; slide ids may carry a slide's ending.
        look_for_files: False where `check_row_files` follows: a job of 16 slides must not look for 100,000.
        rows: which rows are wanted, and checked; default: all. The classes are those of the whole manifest.

    Raises:
        BadInput: with file, line and column; faults of one kind are listed together.
    """
    table = read_text_table(path)
    by_id = slides_dir is not None or not with_slides
    check_columns(table, ("slide_id", "label") if by_id else ("slide_id", "path", "label"))
    wanted = table if rows is None else table._replace(rows=table.rows[rows])
    if "path" not in table.columns:
        wanted = with_paths(wanted, slides_dir or path.parent) if with_slides else with_ids_as_paths(wanted)
    made = tuple(slide_row(wanted, record, slides_dir or path.parent) for record in wanted.rows)
    check_slide_ids(wanted, [row.slide_id for row in made])
    check_case_ids(wanted, [row.case_id for row in made])
    if with_slides:
        refuse_shared_files(path, [(row.slide_id, row.path) for row in made])
    if look_for_files:
        check_row_files(path, made, with_slides=with_slides)
    unlabeled = [record.cells.get("split", "") == "test" for record in table.rows]
    labels = [nfc(record.cells["label"]) for record in table.rows]
    known = check_labels(table, labels, classes, may_lack=unlabeled)
    if not classes:
        refuse_guessed_order(known, where=path)
    return Manifest(made, known)


def check_row_files(
    table: Path, rows: Iterable[SlideRow], *, with_slides: bool = True, fetched: bool = False
) -> None:
    """Refuse rows whose slide or annotation is not there.

    Args:
        table: the manifest, for the message.
        rows: the rows to look at.
        with_slides: False: only annotations.
        fetched: slides in storage must have been copied here; else they are left to Snakemake.

    Raises:
        BadInput: the missing files of a column are listed together.
    """
    rows = tuple(rows)
    slides = [(row.slide_id, row.path) for row in rows if with_slides and (fetched or not row.address)]
    refuse_missing_files(table, "path", slides)
    drawings = [(row.slide_id, row.annotation) for row in rows if row.annotation is not None]
    refuse_missing_files(table, "annotation", drawings)


def chunk_rows(rows: Sequence[SlideRow], slides_per_job: int) -> list[tuple[SlideRow, ...]]:
    """Cut rows into runs of `slides_per_job` (the last may be shorter), in order."""
    return [tuple(rows[start : start + slides_per_job]) for start in range(0, len(rows), slides_per_job)]


def rows_of_slides(
    paths: Sequence[Path], slide_mpp: float | None, *, recursive: bool = False, slide_id: str | None = None
) -> tuple[SlideRow, ...]:
    """Make rows for inference from slide files, folders, patterns, and CSV files with a column `path`.

    In a CSV every other column is optional; its own slide_mpp goes before the argument's. With `recursive`
    folders stand for the slides in them and below them. `slide_id` names the slide where there is one only.

    Raises:
        BadInput: missing files (all at once), folders and patterns without slides, ids that clash or cannot
            name a file.
    """
    if slide_mpp is not None and not 0 < slide_mpp < math.inf:
        raise BadInput(f"--slide-mpp {slide_mpp}: expected a positive number of um/px such as 0.25")
    rows = [row for path in given_paths(paths, recursive=recursive) for row in _rows_of(path, slide_mpp)]
    if slide_id is not None and len(rows) == 1:
        rows = [rows[0]._replace(slide_id=slide_id)]
    _refuse_missing("slide", [row.path for row in rows])
    _refuse_missing("annotation", [row.annotation for row in rows if row.annotation])
    faults = [
        f"{row.slide_id!r} of {str(row.path)!r} {fault}"
        for row in rows
        if (fault := slide_id_fault(row.slide_id))
    ]
    if faults:
        raise BadInput(
            f"no usable slide id: {listed(faults)}; give them plain ids in a CSV with slide_id,path"
        )
    clashing = clashes(row.slide_id for row in rows)
    if clashing:
        files = [str(row.path) for row in rows if same_name_key(row.slide_id) in clashing]
        raise BadInput(f"slides with the same id: {listed(files)}; name them in a CSV with slide_id,path")
    return tuple(rows)


def _refuse_missing(kind: str, files: Iterable[Path]) -> None:
    present = is_slide_path if kind == "slide" else is_regular_file
    missing = [str(file) for file in files if not present(file)]
    if missing:
        raise BadInput(f"no such {kind} file (absent, or no regular file): {listed(missing)}")


def _rows_of(path: Path, slide_mpp: float | None) -> list[SlideRow]:
    if is_folder(path) and not is_slide_folder(path):
        files = slides_in(path)
        if not files:
            raise BadInput(f"{path}: no slide in this folder (infer --recursive searches subfolders too)")
        return [bare_row(file, slide_mpp) for file in files]
    if path.suffix.lower() not in TABLE_SUFFIXES:
        return [bare_row(path, slide_mpp)]
    table = read_text_table(path)
    check_columns(table, ("path",))
    rows = [slide_row(table, record, path.parent) for record in table.rows]
    named = [row if row.slide_id else _with_id(row) for row in rows]
    return [row if row.slide_mpp else row._replace(slide_mpp=slide_mpp) for row in named]


def _with_id(row: SlideRow) -> SlideRow:
    slide_id = slide_id_of(row.path)
    return row._replace(slide_id=slide_id, case_id=row.case_id or slide_id)


def bare_row(path: Path, slide_mpp: float | None) -> SlideRow:
    """Return the row of a slide of which nothing is known but its file."""
    slide_id = slide_id_of(path)
    return SlideRow(slide_id, path, "", slide_id, "", slide_mpp, None, "")


def slide_row(table: Table, record: TableRow, base: Path) -> SlideRow:
    """Read one record of a table that has the column `path`; relative paths start from `base`.

    Raises:
        BadInput: an empty path, an unknown part, a resolution that is no positive number.
    """
    cells = {name: nfc(cell) for name, cell in record.cells.items()}
    if not cells["path"]:
        raise BadInput(f"{table.path}: line {record.line}, column path: empty; expected the slide's file")
    address = record.cells["path"] if is_address(record.cells["path"]) else ""
    file = local_copy(address) if address else base / record.cells["path"]
    annotation = record.cells.get("annotation", "")
    slide_id = cells["slide_id"] if "slide_id" in cells else slide_id_of(file)
    return SlideRow(
        slide_id=slide_id,
        path=file,
        label=cells.get("label", ""),
        case_id=cells.get("case_id", "") or slide_id,
        split=_split(table, record),
        slide_mpp=_slide_mpp(table, record),
        annotation=base / annotation if annotation else None,
        site=cells.get("site", ""),
        extra=tuple((name, cell) for name, cell in cells.items() if name and name not in KNOWN_COLUMNS),
        address=address,
    )


def _split(table: Table, record: TableRow) -> str:
    value = record.cells.get("split", "")
    if value and value not in PARTS:
        fault = unknown_name("part", value, PARTS)
        raise BadInput(f"{table.path}: line {record.line}, column split: {fault}")
    return value


def _slide_mpp(table: Table, record: TableRow) -> float | None:
    text = record.cells.get("slide_mpp", "")
    if not text:
        return None
    try:
        value = float(text) if "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if math.isfinite(value) and value > 0:
        return value
    dotted = f"; write the decimal comma as a dot: {text.replace(',', '.')}" if "," in text else ""
    raise BadInput(
        f"{table.path}: line {record.line}, column slide_mpp: '{text}'; "
        f"expected a positive number of um/px such as 0.25, or nothing{dotted}"
    )

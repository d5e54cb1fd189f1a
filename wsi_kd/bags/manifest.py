"""The manifest (slides.csv): which slides there are, whose they are, and what they are labeled."""

import math
import unicodedata
from collections import Counter
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
)
from wsi_kd.bags.slide_files import (
    is_folder,
    is_regular_file,
    is_slide_folder,
    is_slide_name,
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


class Manifest(NamedTuple):
    """Every slide in the file's order, and the classes in order (the negative one first)."""

    rows: tuple[SlideRow, ...]
    classes: tuple[str, ...]


def read_manifest(
    path: Path, *, slides_dir: Path | None, classes: Sequence[str], with_slides: bool = True
) -> Manifest:
    """Read a manifest and check all of it, so that no fault shows up hours later.

    Columns: `slide_id,path,label` or, as in CLAM, `slide_id,label` with `slides_dir`, where a slide's file is
    found by its id; optional `case_id,split,slide_mpp,annotation,site`; others can be subgroups of evaluate.
    Relative paths start from `slides_dir` where it is given, else from the manifest's folder. A label may be
    missing where the column split says test: such slides are scored and not measured.

    Args:
        path: the CSV (or .tsv) file.
        slides_dir: folder of the slides.
        classes: labels in order; empty: the labels found, sorted.
        with_slides: False where features are given: the column path is optional and its files need not be
            there; slide ids may carry a slide's ending.

    Raises:
        BadInput: with file, line and column; faults of one kind are listed together.
    """
    table = read_text_table(path)
    by_id = slides_dir is not None or not with_slides
    check_columns(table, ("slide_id", "label") if by_id else ("slide_id", "path", "label"))
    if "path" not in table.columns:
        table = _with_paths(table, slides_dir or path.parent) if with_slides else _with_ids_as_paths(table)
    rows = tuple(slide_row(table, record, slides_dir or path.parent) for record in table.rows)
    check_slide_ids(table, [row.slide_id for row in rows])
    check_case_ids(table, [row.case_id for row in rows])
    _check_files(table, rows, ("path", "annotation") if with_slides else ("annotation",))
    unlabeled = [row.split == "test" for row in rows]
    labels = [row.label for row in rows]
    return Manifest(rows, check_labels(table, labels, classes, may_lack=unlabeled))


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


def _with_paths(table: Table, slides_dir: Path) -> Table:
    """CLAM's layout: fill the column path by looking for each id, with or without ending, in `slides_dir`."""
    found: dict[str, list[str]] = {}
    for file in slides_in(slides_dir):
        found.setdefault(slide_id_of(file), []).append(file.name)
    rows, missing, ambiguous = [], [], []
    for record in table.rows:
        named = Path(_nfc(record.cells["slide_id"]))
        slide_id = slide_id_of(named) if is_slide_name(named) and named.name == str(named) else str(named)
        files = [name for name in found.get(slide_id, []) if str(named) in {slide_id, _nfc(name)}]
        if len(files) == 1:
            rows.append(TableRow(record.line, {**record.cells, "slide_id": slide_id, "path": files[0]}))
        elif files:
            ambiguous.append(f"{slide_id} ({', '.join(files)})")
        else:
            missing.append(repr(record.cells["slide_id"]))
    where = f"{table.path}: column slide_id"
    if missing:
        raise BadInput(f"{where}: no slide file in {slides_dir} for {len(missing)} ids: {listed(missing)}")
    if ambiguous:
        raise BadInput(
            f"{where}: several files fit: {listed(ambiguous)}; write the ending or add the column path"
        )
    return table._replace(columns=(*table.columns, "path"), rows=tuple(rows))


def _with_ids_as_paths(table: Table) -> Table:
    """Fill the column path of a table of labels with the ids as written: no file need have that name."""
    rows = []
    for record in table.rows:
        name = record.cells["slide_id"]
        if not name:
            raise BadInput(
                f"{table.path}: line {record.line}, column slide_id: empty; expected the slide's id"
            )
        rows.append(TableRow(record.line, {**record.cells, "slide_id": _plain_id(name), "path": name}))
    return table._replace(columns=(*table.columns, "path"), rows=tuple(rows))


def _plain_id(name: str) -> str:
    """Cut a slide's ending off an id; a name with a folder in it is left for the check of ids to refuse."""
    return slide_id_of(Path(name)) if Path(name).name == name else name


def slide_row(table: Table, record: TableRow, base: Path) -> SlideRow:
    """Read one record of a table that has the column `path`; relative paths start from `base`.

    Raises:
        BadInput: an empty path, an unknown part, a resolution that is no positive number.
    """
    cells = {name: _nfc(cell) for name, cell in record.cells.items()}
    if not cells["path"]:
        raise BadInput(f"{table.path}: line {record.line}, column path: empty; expected the slide's file")
    file = base / record.cells["path"]
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
    )


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


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


def _check_files(table: Table, rows: Sequence[SlideRow], columns: Sequence[str]) -> None:
    uses = Counter(row.path for row in rows)
    twice = [f"{row.slide_id} ({row.path})" for row in rows if uses[row.path] > 1]
    if twice and "path" in columns:
        raise BadInput(
            f"{table.path}: column path: one file under several ids: {listed(twice)}; keep one of them"
        )
    for column in columns:
        files: list[Path | None] = [getattr(row, column) for row in rows]
        missing = [
            f"{row.slide_id} ({file})"
            for row, file in zip(rows, files, strict=True)
            if file is not None and not (is_slide_path if column == "path" else is_regular_file)(file)
        ]
        if missing:
            raise BadInput(
                f"{table.path}: column {column}: no such file for {len(missing)}: {listed(missing)}"
            )

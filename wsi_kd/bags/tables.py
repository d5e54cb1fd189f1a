"""CSV and TSV files that people write: every fault is one line that names file, line and column."""

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from wsi_kd.core.errors import BadInput

MAX_LISTED = 20


class TableRow(NamedTuple):
    """One record: the line it starts on (the header is line 1) and its stripped cells by column."""

    line: int
    cells: dict[str, str]


class Table(NamedTuple):
    """A whole table as text."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]


def read_text_table(path: Path, *, columns: Sequence[str] = ()) -> Table:
    """Read a UTF-8 table with a header line (`.tsv`: tabs, else commas); blank records are left out.

    A byte order mark and any kind of line end are fine. `columns` names them where the file has no header.

    Raises:
        BadInput: no such file, another encoding, NUL bytes, an unclosed quote, a ragged or over-long record,
            a column named twice, a semicolon table, or no header at all.
    """
    text = _decode(path)
    records = _records(path, text)
    names = tuple(columns)
    if not names:
        first = next(records, None)
        if first is None:
            raise BadInput(f"{path}: empty file; expected a header line such as slide_id,path,label")
        names = tuple(name.strip() for name in first[1])
    _check_columns(path, names)
    return Table(path, names, tuple(_rows(path, names, records)))


def listed(items: Iterable[str], *, limit: int = MAX_LISTED) -> str:
    """Join items for an error line, the first `limit` of them.

    >>> listed(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    every = list(items)
    shown = ", ".join(every[:limit])
    return shown if len(every) <= limit else f"{shown} and {len(every) - limit} more"


def _decode(path: Path) -> str:
    content = _content(path)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise BadInput(f"{path}: saved as UTF-16; save it as 'CSV UTF-8'")
    if b"\0" in content:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        raise BadInput(
            f"{path}: line {line} holds a NUL byte; expected plain UTF-8 text (an .xlsx is no CSV)"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise BadInput(
            f"{path}: line {line} is not UTF-8 (byte {error.start}); save it as 'CSV UTF-8'"
        ) from None


def _content(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise BadInput(f"{path}: not a file; expected a CSV table")
        return path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; expected a CSV table") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); expected a CSV table") from None


def _records(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            what = "a quote is never closed" if "end of data" in str(error) else str(error)
            raise BadInput(f"{path}: line {line}: {what}; expected comma-separated values") from None
        if record is None:
            return
        if any(cell.strip() for cell in record):
            yield line, record


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t"):
        raise BadInput(
            f"{path}: columns are separated by semicolons or tabs; expected commas (tabs in a .tsv file)"
        )
    twice = [name for name, count in Counter(columns).items() if name and count > 1]
    if twice:
        raise BadInput(
            f"{path}: line 1 names these columns more than once: {listed(twice)}; keep one of each"
        )


def _rows(path: Path, columns: Sequence[str], records: Iterator[tuple[int, list[str]]]) -> Iterator[TableRow]:
    for line, record in records:
        if len(record) != len(columns):
            raise BadInput(
                f"{path}: line {line} has {len(record)} cells, the header has {len(columns)} columns; "
                "quote cells that hold a comma"
            )
        yield TableRow(line, dict(zip(columns, (cell.strip() for cell in record), strict=True)))

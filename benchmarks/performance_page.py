"""Fill the tables of docs/performance.md from what the benchmarks measured: no figure there is typed by hand.

    python benchmarks/performance_page.py             # fill every table whose JSON is there
    python benchmarks/performance_page.py --check     # exit 1 where a table is not what its JSON says
    python benchmarks/performance_page.py --out elsewhere.md

On the page a table stands between two comments, on lines of their own:

    <!-- table: read_tiles/ways -->
    <!-- end -->

read_tiles is results/bench/read_tiles.json, ways one of its `tables` (benchmarks/bench_record.py). What is
filled in ends with `<!-- end: 0123456789ab -->`, the hash of its text: `--check` sees a figure that was typed
even where the JSON is gone. A table without JSON keeps what it holds.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from wsi_kd.core.errors import BadInput, WsiKdError
from wsi_kd.core.files import content_hash, publish_text, read_json

PAGE: Final = Path("docs/performance.md")
FOLDER: Final = Path("results/bench")
NOT_MEASURED: Final = "-"
DIGITS: Final = 12
_START = re.compile(r"<!-- table: (?P<file>[\w.-]+)/(?P<name>[\w.-]+) -->")
_END = re.compile(r"<!-- end(?:: (?P<digest>[0-9a-f]+))? -->")


class Block(NamedTuple):
    """One table of the page: the lines from its first comment to its last."""

    file: str
    name: str
    first: int
    last: int
    digest: str
    """Of the text between them, as the last comment tells it; empty where nothing was filled in yet."""


def blocks_of(lines: Sequence[str]) -> Iterator[Block]:
    """Find the tables of a page.

    Raises:
        BadInput: a comment without its partner.
    """
    opened: tuple[int, re.Match[str]] | None = None
    for number, line in enumerate(lines):
        start, end = _START.fullmatch(line.strip()), _END.fullmatch(line.strip())
        if (start and opened) or (end and not opened):
            raise BadInput(
                f"line {number + 1}: {line.strip()} without its partner; each table has both comments"
            )
        if start:
            opened = number, start
        elif end and opened:
            first, named = opened
            yield Block(named["file"], named["name"], first, number, end["digest"] or "")
            opened = None
    if opened:
        raise BadInput(f"line {opened[0] + 1}: a table that is not ended; add the line <!-- end -->")


def table_text(record: Mapping[str, Any], name: str, *, where: Path) -> str:
    """Print one table of a benchmark's JSON as Markdown, its command and machine below it.

    Raises:
        BadInput: there is no such table.
    """
    if name not in record.get("tables", {}):
        raise BadInput(f"{where}: no table {name!r}; it has: {', '.join(record.get('tables', {})) or 'none'}")
    table = record["tables"][name]
    headings, formats = list(table["columns"]), list(table["columns"].values())
    lines = [headings, ["---" if not how else "---:" for how in formats]]
    lines += [[_cell(value, how) for value, how in zip(row, formats, strict=True)] for row in table["rows"]]
    machine, versions = record["machine"], record["versions"]
    where_measured = [machine["cpu"], f"{machine['cores']} cores" if machine["cores"] > 1 else "1 core"]
    where_measured += [machine["gpu"]] if machine["gpu"] else []
    told = f"`{record['command']}`; {', '.join(where_measured)}; torch {versions['torch']}"
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", told])


def filled(page: str, folder: Path) -> tuple[str, list[str]]:
    """Return the page with every table whose JSON is there, and what could not be filled, in words.

    Raises:
        BadInput: a comment without its partner, or JSON that is damaged or has no such table.
    """
    lines, absent = page.splitlines(), []
    for block in reversed(list(blocks_of(lines))):
        path = folder / f"{block.file}.json"
        if not path.is_file():
            absent.append(f"{block.file}/{block.name}: no {path}; the table stays as it is")
            continue
        text = table_text(read_json(path, remake=f"benchmarks/{block.file}.py"), block.name, where=path)
        comment = lines[block.first].strip()
        lines[block.first : block.last + 1] = [
            comment,
            "",
            *text.split("\n"),
            "",
            f"<!-- end: {digest(text)} -->",
        ]
    return "\n".join(lines) + "\n", absent[::-1]


def faults(page: str, folder: Path) -> list[str]:
    """Name every table that is not what its JSON says, or where that is gone, what was once filled in."""
    lines = page.splitlines()
    found = []
    for block in blocks_of(lines):
        inside = "\n".join(lines[block.first + 1 : block.last]).strip("\n")
        path = folder / f"{block.file}.json"
        expected = (
            table_text(read_json(path, remake=f"benchmarks/{block.file}.py"), block.name, where=path)
            if path.is_file()
            else None
        )
        if inside and digest(inside) != block.digest:
            found.append(f"{block.file}/{block.name}: changed by hand")
        elif expected is not None and inside != expected:
            found.append(f"{block.file}/{block.name}: not what {path} says")
    return found


def digest(text: str) -> str:
    """Hash the text of a table."""
    return content_hash(text)[:DIGITS]


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill or check the page; return the exit status."""
    chosen = _parser().parse_args(arguments)
    try:
        page = chosen.page.read_text(encoding="utf-8")
        if chosen.check:
            told = faults(page, chosen.folder)
            print(
                "\n".join(
                    [*told, f"remedy: python benchmarks/{Path(__file__).name}"]
                    if told
                    else ["all as measured"]
                )
            )
            return 1 if told else 0
        text, absent = filled(page, chosen.folder)
    except WsiKdError as error:
        print(f"{chosen.page}: {error}", file=sys.stderr)
        return 2
    out = chosen.out or chosen.page
    if text != page or out != chosen.page:
        publish_text(out, text)
    print("\n".join([f"{out}: {'filled' if text != page else 'unchanged'}", *absent]))
    return 0


def _cell(value: Any, how: str) -> str:
    if value is None:
        return NOT_MEASURED
    return str(value).replace("|", "\\|") if isinstance(value, str) else format(value, how)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--page", type=Path, default=PAGE, help=f"default: {PAGE}")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"folder of the JSON, default: {FOLDER}")
    parser.add_argument("--out", type=Path, help="write there, and leave the page as it is")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a table differs")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

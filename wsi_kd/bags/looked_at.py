"""A manifest read to look at its slides: labels, parts and even files may be missing."""

from pathlib import Path

from wsi_kd.bags.manifest import SlideRow, slide_row
from wsi_kd.bags.manifest_checks import check_columns, check_slide_ids
from wsi_kd.bags.slide_files import slide_id_of, slides_in
from wsi_kd.bags.tables import Table, TableRow, read_text_table


def read_rows(path: Path, *, slides_dir: Path | None) -> tuple[SlideRow, ...]:
    """Read a manifest's rows: the column `path`, or `slide_id` and a folder of slides, is all that it needs.

    Args:
        path: the CSV (or .tsv) file.
        slides_dir: folder that relative paths start from, else the manifest's; without the column `path`
            slides are found there by their id. One that is not found keeps a path that does not exist.

    Raises:
        BadInput: with file, line and column: an unreadable table, ids that clash or cannot name files.
    """
    table, base = read_text_table(path), slides_dir or path.parent
    check_columns(table, ("path",) if "path" in table.columns else ("slide_id",))
    if "path" not in table.columns:
        table = _with_paths(table, {slide_id_of(file): file for file in slides_in(base)})
    rows = tuple(slide_row(table, record, base) for record in table.rows)
    check_slide_ids(table, [row.slide_id for row in rows])
    return rows


def _with_paths(table: Table, found: dict[str, Path]) -> Table:
    """Fill the column path by id, written with or without the file's ending."""
    rows = []
    for record in table.rows:
        slide_id = slide_id_of(Path(record.cells["slide_id"]))
        file = found.get(slide_id)
        name = record.cells["slide_id"] if file is None else file.name
        rows.append(TableRow(record.line, {**record.cells, "slide_id": slide_id, "path": name}))
    return table._replace(columns=(*table.columns, "path"), rows=tuple(rows))

"""Manifests without the column path: where it is taken from."""

import unicodedata
from pathlib import Path

from wsi_kd.bags.slide_files import is_slide_name, slide_id_of, slides_in
from wsi_kd.bags.tables import Table, TableRow, listed
from wsi_kd.core.errors import BadInput


def nfc(text: str) -> str:
    """Return text in Unicode form NFC."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def with_paths(table: Table, slides_dir: Path) -> Table:
    """CLAM's layout: fill the column path by looking for each id, with or without ending, in `slides_dir`.

    Raises:
        BadInput: ids without a file, or with several; they are named.
    """
    found: dict[str, list[str]] = {}
    for file in slides_in(slides_dir):
        found.setdefault(slide_id_of(file), []).append(file.name)
    rows, missing, ambiguous = [], [], []
    for record in table.rows:
        named = Path(nfc(record.cells["slide_id"]))
        slide_id = slide_id_of(named) if is_slide_name(named) and named.name == str(named) else str(named)
        files = [name for name in found.get(slide_id, []) if str(named) in {slide_id, nfc(name)}]
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


def with_ids_as_paths(table: Table) -> Table:
    """Fill the column path of a table of labels with the ids as written: no file need have that name.

    Raises:
        BadInput: an empty id.
    """
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

"""Label tables of other programs -> rows of a manifest: CLAM, Patho-Bench, STAMP, a bare list of labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from wsi_kd.bags.manifest_checks import check_case_ids, check_slide_ids
from wsi_kd.bags.slide_files import slide_id_of, slides_in
from wsi_kd.bags.tables import Table, TableRow, listed, read_text_table
from wsi_kd.core.errors import BadInput

STAMP_PATIENT, STAMP_FILE = "PATIENT", "FILENAME"
FEATURE_ENDINGS: Final = (".h5", ".pt")
"""Endings of feature files that STAMP's slide tables name."""


class LabelRow(NamedTuple):
    """One slide of a label table; empty strings where the table does not say."""

    slide_id: str
    label: str
    case_id: str
    path: str = ""


class ImportedLabels(NamedTuple):
    """The slides, and those for which no file was found."""

    rows: tuple[LabelRow, ...]
    missing: tuple[str, ...]


def import_labels(
    table: Path,
    *,
    target: str = "label",
    columns: Sequence[str] = (),
    slide_table: Path | None = None,
    rename: Mapping[str, str] | None = None,
) -> tuple[LabelRow, ...]:
    """Read who is labeled how.

    Args:
        table: CLAM's `case_id,slide_id,label`, Patho-Bench's TSV, STAMP's clini table, or any table with
            slide ids and labels.
        target: column of the label.
        columns: names of the columns of a table without a header line, e.g. slide_id and label.
        slide_table: STAMP's `PATIENT,FILENAME`; then `table` holds one row a patient.
        rename: what labels are called in the table and shall be called, e.g. {"0": "normal"}.

    Raises:
        BadInput: missing columns, slides named twice, patients without a label, labels that `rename` lacks.
    """
    labels = read_text_table(table, columns=columns)
    rows = _by_slide(labels, target) if slide_table is None else _by_patient(labels, slide_table, target)
    checked = Table(slide_table or table, ("slide_id",), tuple(TableRow(line, {}) for line, _ in rows))
    check_slide_ids(checked, [row.slide_id for _, row in rows])
    check_case_ids(checked, [row.case_id or row.slide_id for _, row in rows])
    return tuple(row._replace(label=_renamed(row.label, rename, where=table)) for _, row in rows)


def with_slide_files(rows: Sequence[LabelRow], slides_dir: Path, *, base: Path) -> ImportedLabels:
    """Find each slide's file by its id; paths are relative to `base` where they lie below it.

    Raises:
        BadInput: not a folder, or several files of one id.
    """
    found: dict[str, list[Path]] = {}
    for path in slides_in(slides_dir):
        found.setdefault(slide_id_of(path), []).append(path)
    several = [row.slide_id for row in rows if len(found.get(row.slide_id, ())) > 1]
    if several:
        raise BadInput(f"{slides_dir}: several files fit these ids: {listed(several)}; keep one of each")
    placed = [
        row._replace(path=_relative(found[row.slide_id][0], base)) for row in rows if row.slide_id in found
    ]
    return ImportedLabels(tuple(placed), tuple(row.slide_id for row in rows if row.slide_id not in found))


def _relative(path: Path, base: Path) -> str:
    full, root = path.resolve(), base.resolve()
    return str(full.relative_to(root)) if full.is_relative_to(root) else str(full)


def _by_slide(table: Table, target: str) -> list[tuple[int, LabelRow]]:
    _need(table, "slide_id", target)
    return [
        (
            row.line,
            LabelRow(_plain(row.cells["slide_id"]), _label(table, row, target), row.cells.get("case_id", "")),
        )
        for row in table.rows
    ]


def _by_patient(clini: Table, slide_table: Path, target: str) -> list[tuple[int, LabelRow]]:
    _need(clini, STAMP_PATIENT, target)
    slides = read_text_table(slide_table)
    _need(slides, STAMP_PATIENT, STAMP_FILE)
    labels = _labels_of_patients(clini, target)
    unlabeled = dict.fromkeys(
        row.cells[STAMP_PATIENT] for row in slides.rows if row.cells[STAMP_PATIENT] not in labels
    )
    if unlabeled:
        raise BadInput(
            f"{clini.path}: no {target} of {len(unlabeled)} patients that {slide_table} names: "
            f"{listed(unlabeled)}; label them, or take their slides out"
        )
    return [
        (
            row.line,
            LabelRow(
                _plain(row.cells[STAMP_FILE]), labels[row.cells[STAMP_PATIENT]], row.cells[STAMP_PATIENT]
            ),
        )
        for row in slides.rows
    ]


def _labels_of_patients(clini: Table, target: str) -> dict[str, str]:
    labels: dict[str, str] = {}
    for row in clini.rows:
        patient, label = row.cells[STAMP_PATIENT], row.cells[target]
        if label and labels.setdefault(patient, label) != label:
            raise BadInput(
                f"{clini.path}: line {row.line}, column {target}: '{label}', but '{labels[patient]}' in a "
                f"line before for the same patient {patient}; keep one"
            )
    return labels


def _plain(name: str) -> str:
    """Cut folders and endings of slides and of feature files off a name."""
    bare = Path(name).name
    for ending in FEATURE_ENDINGS:
        bare = bare.removesuffix(ending)
    return slide_id_of(Path(bare)) if bare else ""


def _label(table: Table, row: TableRow, target: str) -> str:
    if not row.cells[target]:
        raise BadInput(f"{table.path}: line {row.line}, column {target}: no label")
    return row.cells[target]


def _renamed(label: str, rename: Mapping[str, str] | None, *, where: Path) -> str:
    if not rename:
        return label
    if label not in rename:
        raise BadInput(f"{where}: label '{label}' is not among those renamed: {listed(rename)}")
    return rename[label]


def _need(table: Table, *columns: str) -> None:
    missing = [name for name in columns if name not in table.columns]
    if missing:
        found = listed(repr(name) for name in table.columns)
        raise BadInput(
            f"{table.path}: line 1: no column {listed(missing)}; found {found}; "
            "name the label's column with --target, or all with --columns where there is no header line"
        )

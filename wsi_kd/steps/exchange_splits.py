"""Splits and label tables from and to other programs' files."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from wsi_kd.bags.given_splits import read_given_parts
from wsi_kd.bags.manifest import PARTS, Manifest
from wsi_kd.bags.split_export import (
    LabeledSlide,
    TextTable,
    cases_of_two_labels,
    clam_tables,
    patho_bench_tables,
    stamp_splits,
    stamp_tables,
)
from wsi_kd.bags.split_import import ImportedSplits, import_splits
from wsi_kd.bags.splits import Fold, fold_of_parts
from wsi_kd.bags.tables import listed, read_text_table
from wsi_kd.core.errors import BadInput, unknown_name
from wsi_kd.core.files import check_table, publish, publish_table, publish_text, sidecar
from wsi_kd.core.provenance import stamp

EXCLUDED = "excluded"
FORMATS = ("clam", "patho_bench", "stamp")


class ValDraw(NamedTuple):
    """How val is drawn where other programs have none."""

    share: float = 0.0
    seed: int = 0


def run_import_splits(
    source: Path, manifest: Manifest, out: Path, *, val: ValDraw, allow_unknown: bool
) -> ImportedSplits:
    """Write `slide_id,case_id,label,fold_0,...` for `split.given`, checked against the manifest.

    Raises:
        BadInput: whatever `import_splits` refuses: unknown ids, leaks (with the cases), lacking classes.
        RunFailed: the table could not be written.
    """
    found = import_splits(
        source, manifest.rows, val_share=val.share, seed=val.seed, allow_unknown=allow_unknown
    )
    part_of = [
        {slide_id: part for part, ids in zip(PARTS, fold, strict=True) for slide_id in ids}
        for fold in found.folds
    ]
    columns = ("slide_id", "case_id", "label", *(f"fold_{index}" for index in range(len(found.folds))))
    rows = [
        (row.slide_id, row.case_id, row.label, *(parts.get(row.slide_id, EXCLUDED) for parts in part_of))
        for row in manifest.rows
    ]
    described = {"import": {"source": source.name, "val_share": val.share, "seed": val.seed}}
    publish_table(out, columns, rows, stamp=stamp("given_splits", described))
    return found


def run_export_splits(splits: Path, out: Path, *, to: str, task: str = "label") -> list[Path]:
    """Write a run's splits.csv (or any table with fold columns, cases and labels) as another program's files.

    Raises:
        BadInput: an unknown format, a table without cases or labels, a changed splits.csv, or for STAMP a
            case whose slides have two labels.
        RunFailed: a file could not be written.
    """
    if to not in FORMATS:
        raise unknown_name("format", to, FORMATS)
    slides, folds = _read(splits)
    if to == "clam":
        return _write(out, clam_tables(slides, folds))
    if to == "patho_bench":
        return _write(out, patho_bench_tables(slides, folds, task=task))
    mixed = cases_of_two_labels(slides)
    if mixed:
        raise BadInput(f"{splits}: STAMP keeps one label a patient, these have two: {listed(mixed)}")
    paths = _write(out, stamp_tables(slides))
    paths.append(out / "splits.json")
    publish_text(paths[-1], json.dumps(stamp_splits(slides, folds), indent=1, ensure_ascii=False) + "\n")
    return paths


def _read(path: Path) -> tuple[list[LabeledSlide], list[Fold]]:
    if sidecar(path).is_file():
        check_table(path, remake="wsi-kd split")
    table = read_text_table(path)
    missing = [name for name in LabeledSlide._fields if name not in table.columns]
    if missing:
        raise BadInput(
            f"{path}: line 1: no column {listed(missing)}; expected a run's splits.csv: "
            "slide_id,case_id,label,fold_0,..."
        )
    slides = [LabeledSlide(*(row.cells[name] for name in LabeledSlide._fields)) for row in table.rows]
    parts = read_given_parts(path, {slide.slide_id for slide in slides})
    return slides, [fold_of_parts(fold) for fold in parts]


def _write(out: Path, tables: Sequence[TextTable]) -> list[Path]:
    paths = []
    for table in tables:
        paths.append(out / table.name)
        delimiter = "\t" if table.name.endswith(".tsv") else ","
        with publish(paths[-1]) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n", delimiter=delimiter)
            writer.writerow(table.columns)
            writer.writerows(table.rows)
    return paths

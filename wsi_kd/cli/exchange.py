"""Command groups splits (import, export) and manifest (import): tables from and to other programs."""

import csv
from pathlib import Path
from typing import Annotated

import typer

from wsi_kd.bags.label_import import ImportedLabels, LabelRow, import_labels, with_slide_files
from wsi_kd.bags.manifest import read_manifest
from wsi_kd.bags.tables import listed
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish
from wsi_kd.core.messages import say, warn

splits_app = typer.Typer(help="Splits from and to CLAM, Patho-Bench and STAMP.")
manifest_app = typer.Typer(help="Manifests out of other programs' label tables.")

Out = Annotated[Path, typer.Option("--out", help="File or folder to write.")]


@splits_app.command("import")
def import_splits_command(
    source: Annotated[
        Path,
        typer.Argument(
            help="CLAM's folder, a table with fold_0,... by slide or case, or STAMP's splits.json."
        ),
    ],
    *,
    manifest: Annotated[Path, typer.Option("--manifest", help="slides.csv, or a table of labels and cases.")],
    out: Out = Path("splits.csv"),
    val_share: Annotated[
        float,
        typer.Option(
            "--val-share", min=0, max=0.9, help="Share of train cases to draw for val, where none is."
        ),
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Of that draw.")] = 0,
    allow_unknown: Annotated[
        bool, typer.Option("--allow-unknown", help="Leave out what the manifest does not hold.")
    ] = False,
) -> None:
    """Check splits made elsewhere (leaks fail, with the cases) and write them for split.given."""
    from wsi_kd.steps.exchange_splits import ValDraw, run_import_splits

    sheet = read_manifest(manifest, slides_dir=None, classes=(), with_slides=False)
    found = run_import_splits(source, sheet, out, val=ValDraw(val_share, seed), allow_unknown=allow_unknown)
    if found.unknown:
        warn(f"left out, not in the manifest: {listed(found.unknown)}")
    if found.unplaced:
        warn(f"in no part of any fold: {listed(found.unplaced)}")
    say(f"{out}: {len(found.folds)} folds; use it as split.given")


@splits_app.command("export")
def export_splits_command(
    splits: Annotated[Path, typer.Argument(help="A run's splits.csv: slide_id,case_id,label,fold_0,...")],
    *,
    out: Out,
    to: Annotated[str, typer.Option("--to", help="clam, patho_bench or stamp.")] = "clam",
    task: Annotated[str, typer.Option("--task", help="Patho-Bench's name of the label column.")] = "label",
) -> None:
    """Write a run's splits and labels as CLAM's, Patho-Bench's or STAMP's files."""
    from wsi_kd.steps.exchange_splits import run_export_splits

    paths = run_export_splits(splits, out, to=to, task=task)
    say(f"{len(paths)} files written to {out}")


@manifest_app.command("import")
def import_manifest_command(
    table: Annotated[
        Path, typer.Argument(help="CLAM's label table, Patho-Bench's TSV, STAMP's clini table, ...")
    ],
    *,
    out: Out = Path("slides.csv"),
    target: Annotated[str, typer.Option("--target", help="Column of the label.")] = "label",
    columns: Annotated[
        str, typer.Option("--columns", help="Names of the columns, where there is no header: slide_id,label.")
    ] = "",
    slide_table: Annotated[
        Path | None, typer.Option("--slide-table", help="STAMP's table PATIENT,FILENAME.")
    ] = None,
    rename: Annotated[
        list[str] | None, typer.Option("--rename", help="A label's new name: 0=normal; once a label.")
    ] = None,
    slides_dir: Annotated[
        Path | None, typer.Option("--slides-dir", help="Folder of the slides: fills the column path.")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out slides without a file, instead of failing.")
    ] = False,
) -> None:
    """Make slides.csv of a table of labels and, where it is given, a folder of slides."""
    rows = import_labels(
        table,
        target=target,
        columns=[name for name in columns.split(",") if name],
        slide_table=slide_table,
        rename=_renames(rename or []),
    )
    found = ImportedLabels(rows, ())
    if slides_dir is not None:
        found = with_slide_files(rows, slides_dir, base=out.parent)
    if found.missing:
        told = f"{slides_dir}: no file of {len(found.missing)} of {len(rows)} slides: {listed(found.missing)}"
        if not allow_missing or not found.rows:
            raise BadInput(f"{told}; add them, or leave them out with --allow-missing")
        warn(told)
    _write(out, found.rows)
    say(f"{out}: {len(found.rows)} slides")


def _renames(pairs: list[str]) -> dict[str, str]:
    faulty = [pair for pair in pairs if not all(pair.partition("=")[::2])]
    if faulty:
        raise BadInput(f"--rename {faulty[0]}: expected old=new such as 0=normal")
    return {old: new for old, _, new in (pair.partition("=") for pair in pairs)}


def _write(out: Path, rows: tuple[LabelRow, ...]) -> None:
    """Write a plain CSV without a sidecar: people edit manifests."""
    columns = [name for name in LabelRow._fields if any(getattr(row, name) for row in rows)]
    with publish(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([getattr(row, name) for name in columns] for row in rows)

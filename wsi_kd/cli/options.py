"""Options that several commands share, and the run they describe."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from wsi_kd.bags.manifest import Manifest, SlideRow, check_row_files, chunk_rows, read_manifest
from wsi_kd.cli.layout import Layout
from wsi_kd.cli.rows import rows_hash
from wsi_kd.core.errors import BadInput
from wsi_kd.settings.all import Settings, parse_json_settings, read_settings

SettingsJson = Annotated[
    str | None,
    typer.Option("--settings", metavar="JSON", help="Sections as JSON; absent ones at their defaults."),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Settings file (YAML), as Snakemake takes it.")
]
ManifestFile = Annotated[Path | None, typer.Option("--manifest", help="slides.csv; default: run.manifest.")]
SlidesDir = Annotated[
    Path | None,
    typer.Option(
        "--slides-dir", help="Folder that relative slide paths start from; default: run.slides_dir."
    ),
]
ResultsDir = Annotated[
    Path | None, typer.Option("--results-dir", help="Output folder; default: run.results_dir.")
]
Chunk = Annotated[
    int | None,
    typer.Option("--chunk", min=0, help="Work through this chunk of run.slides_per_job rows; default: all."),
]
RowsHash = Annotated[
    str | None,
    typer.Option(
        "--rows-hash", help="Stop if the manifest's rows are no longer those the workflow planned with."
    ),
]
Recipe = Annotated[str, typer.Option("--recipe", help="Training method; docs/recipes.md compares them.")]
Seed = Annotated[int, typer.Option("--seed", help="Random seed of the training.")]
Fold = Annotated[int, typer.Option("--fold", min=0, help="Fold, counted from 0.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]


class Chunks(NamedTuple):
    """The rows that a command works through, by the number of their chunk."""

    classes: tuple[str, ...]
    rows: dict[int, tuple[SlideRow, ...]]


class Run(NamedTuple):
    """One run as its settings describe it."""

    settings: Settings
    layout: Layout

    def manifest(self, *, look_for_slides: bool = True, rows: slice | None = None) -> Manifest:
        """Read the manifest that the settings name.

        Args:
            look_for_slides: False for commands that read no slide.
            rows: which rows are wanted; default: all.
        """
        run = self.settings.run
        sheet = read_manifest(
            run.manifest,
            slides_dir=run.slides_dir,
            classes=run.classes,
            with_slides=self.settings.adopt.folder is None,
            look_for_files=False,
            rows=rows,
        )
        if look_for_slides:
            self._look_for(sheet.rows)
        return sheet

    def chunks(self, step: str, *, chunk: int | None, rows_hash: str | None) -> Chunks:
        """Read the rows to work through: one chunk of them, or all where `chunk` is None.

        A job of the workflow (it knows `rows_hash`) reads and checks its own rows alone; the plan has read
        them all.

        Raises:
            BadInput: no such chunk, or the manifest was edited while the workflow ran.
        """
        size = self.settings.run.slides_per_job
        if chunk is not None and rows_hash is not None:
            sheet = self.manifest(rows=slice(chunk * size, (chunk + 1) * size))
            check_rows(sheet.rows, step=step, expected=rows_hash)
            return Chunks(sheet.classes, {chunk: sheet.rows})
        sheet = self.manifest(look_for_slides=False)
        chosen = chosen_chunks(sheet, slides_per_job=size, chunk=chunk)
        self._look_for([row for rows in chosen.values() for row in rows])
        for rows in chosen.values():
            check_rows(rows, step=step, expected=rows_hash)
        return Chunks(sheet.classes, chosen)

    def _look_for(self, rows: Sequence[SlideRow]) -> None:
        with_slides = self.settings.adopt.folder is None
        check_row_files(self.settings.run.manifest, rows, with_slides=with_slides, fetched=True)


def open_run(
    *,
    settings: str | None,
    config: Path | None,
    manifest: Path | None = None,
    slides_dir: Path | None = None,
    results_dir: Path | None = None,
) -> Run:
    """Read the settings from `--settings` or `--config`; the other options replace keys of the section `run`.

    Raises:
        BadInput: neither or both were given, or the settings are not valid.
    """
    if (settings is None) == (config is None):
        raise BadInput(
            "give either --config FILE (a copy of configs/default.yaml) or --settings JSON, not both or none"
        )
    parsed = parse_json_settings(settings) if settings is not None else read_settings(config or Path())
    replaced = {"manifest": manifest, "slides_dir": slides_dir, "results_dir": results_dir}
    given = {key: value for key, value in replaced.items() if value is not None}
    merged = parsed.model_copy(update={"run": parsed.run.model_copy(update=given)})
    return Run(merged, Layout(merged.run.results_dir))


def chosen_chunks(
    manifest: Manifest, *, slides_per_job: int, chunk: int | None
) -> dict[int, tuple[SlideRow, ...]]:
    """Return the chunks to work through, by number: one, or all of them when `chunk` is None."""
    chunks = chunk_rows(manifest.rows, slides_per_job)
    if chunk is None:
        return dict(enumerate(chunks))
    if chunk >= len(chunks):
        raise BadInput(
            f"--chunk {chunk}: counted from 0, the manifest has {len(chunks)} chunks of {slides_per_job} rows"
        )
    return {chunk: chunks[chunk]}


def check_rows(rows: tuple[SlideRow, ...], *, step: str, expected: str | None) -> None:
    """Refuse to work on rows that changed between the workflow's plan and its job.

    Raises:
        BadInput: the manifest was edited while the workflow ran.
    """
    if expected is not None and rows_hash(rows, step) != expected:
        raise BadInput(
            "the manifest was edited while the workflow ran; start snakemake again, it redoes what changed"
        )

"""Command group features: verify, convert, merge and subset folders of features, ours and other programs'."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_kd.bags.manifest import read_manifest
from wsi_kd.bags.slide_files import slide_id_of
from wsi_kd.bags.tables import listed, read_text_table
from wsi_kd.core.errors import BadInput, RunFailed, unknown_name
from wsi_kd.core.messages import say, warn
from wsi_kd.core.records import SlideStatus, StatusRow

if TYPE_CHECKING:
    from wsi_kd.steps.verify import Verdict

features_app = typer.Typer(help="Check, convert, join and cut folders of features, ours and other programs'.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of lines.")]
LayoutOption = Annotated[
    str,
    typer.Option("--from", help="Whose layout it is (docs/interchange.md); auto: what its names show."),
]
Source = Annotated[Path, typer.Argument(help="Folder of features.")]
Dest = Annotated[Path, typer.Argument(help="Folder to write.")]
LabelTable = Annotated[
    Path | None,
    typer.Option(
        "--manifest", help="Slides wanted, with labels and um/px: slides.csv, or CLAM's label table."
    ),
]


@features_app.command("verify")
def verify(
    paths: Annotated[list[Path], typer.Argument(help="Feature files, or folders of them.")],
    *,
    layout: LayoutOption = "auto",
    as_json: AsJson = False,
) -> None:
    """Check feature files: every hash of ours, form and values of others; exit code 1 if one is wrong."""
    from wsi_kd.steps.verify import disagreements, verify_paths

    verdicts = []
    for verdict in verify_paths(paths, layout=layout):
        verdicts.append(verdict)
        if not as_json:
            typer.echo(_verdict_line(verdict))
    unlike = disagreements(verdicts)
    if as_json:
        files = [{**verdict._asdict(), "traits": dict(verdict.traits)} for verdict in verdicts]
        typer.echo(json.dumps({"files": files, "disagreements": unlike}, indent=1))
    wrong = [verdict for verdict in verdicts if verdict.faults]
    if unlike and not as_json:
        typer.echo(f"the files differ in {'; '.join(unlike)}: they cannot be trained on together")
    if wrong or unlike:
        raise RunFailed(
            f"{len(wrong)} of {len(verdicts)} files are wrong"
            + (f", and the files differ in {listed(told.split(':')[0] for told in unlike)}" if unlike else "")
        )
    if not as_json:
        tiles = sum(verdict.tiles for verdict in verdicts)
        typer.echo(f"{len(verdicts)} files, {tiles} tiles: nothing wrong")


@features_app.command("convert")
def convert(
    source: Source,
    dest: Dest,
    *,
    to: Annotated[
        str, typer.Option("--to", help="wsi_kd, trident, clam, clam_pt, torchmil or stamp.")
    ] = "wsi_kd",
    layout: LayoutOption = "auto",
    manifest: LabelTable = None,
    encoder: Annotated[
        str, typer.Option("--encoder", help="What made them, where the files do not say.")
    ] = "",
    slide_mpp: Annotated[
        float | None,
        typer.Option("--slide-mpp", help="um/px of slides whose manifest row names none; STAMP needs one."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a folder of features in another layout; run again, it goes on where it was."""
    from wsi_kd.settings.adopt import AdoptSettings
    from wsi_kd.settings.faults import parse
    from wsi_kd.steps.convert import TARGETS, run_convert

    if to not in TARGETS:
        raise unknown_name("layout", to, TARGETS)
    if dest.resolve() == source.resolve():
        raise BadInput(f"{dest}: source and destination are one folder; name another destination")
    told = {"folder": source, "layout": layout, "encoder": encoder, "slide_mpp": slide_mpp}
    statuses = run_convert(
        parse(AdoptSettings, told, where="wsi-kd features convert"),
        dest,
        to=to,
        manifest=None
        if manifest is None
        else read_manifest(manifest, slides_dir=None, classes=(), with_slides=False),
    )
    _finish(statuses, dest, as_json=as_json)


@features_app.command("merge")
def merge(
    sources: Annotated[list[Path], typer.Argument(help="Folders of our feature files, two or more.")],
    *,
    dest: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    as_json: AsJson = False,
) -> None:
    """Join the features of several sites or shards into one folder; another encoder or tiling is refused."""
    from wsi_kd.steps.collect import run_merge

    _finish(run_merge(sources, dest), dest, as_json=as_json)


@features_app.command("subset")
def subset(
    source: Source,
    dest: Dest,
    *,
    manifest: LabelTable = None,
    slide_ids: Annotated[
        list[str] | None, typer.Option("--slide-id", help="Keep this slide; may be given several times.")
    ] = None,
    min_tissue_fraction: Annotated[
        float,
        typer.Option("--min-tissue-fraction", min=0, max=1, help="Keep tiles with this share of tissue."),
    ] = 0.0,
    box: Annotated[
        tuple[int, int, int, int] | None,
        typer.Option("--box-level0-px", help="Keep tiles that begin inside left, top, right, bottom."),
    ] = None,
    max_tiles: Annotated[
        int, typer.Option("--max-tiles", min=0, help="Keep so many tiles of a slide, drawn; 0: all.")
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Of the draw of tiles.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Write some slides, or some tiles of each, of a folder of our features."""
    from wsi_kd.steps.collect import TileChoice, run_subset

    wanted = set(slide_ids or ())
    if manifest is not None:
        wanted |= _ids_of(manifest)
    choice = TileChoice(min_tissue_fraction, box, max_tiles, seed)
    statuses = run_subset(source, dest, slide_ids=wanted or None, choice=choice)
    _finish(statuses, dest, as_json=as_json)


def _ids_of(path: Path) -> set[str]:
    """Read the ids of a table, with or without slides' endings."""
    table = read_text_table(path)
    if "slide_id" not in table.columns:
        raise BadInput(f"{path}: line 1: no column slide_id")
    return {slide_id_of(Path(row.cells["slide_id"])) for row in table.rows}


def _verdict_line(verdict: "Verdict") -> str:
    what = "WRONG" if verdict.faults else "ok"
    size = f"{verdict.tiles} x {verdict.feature_dim} {verdict.feature_dtype}" if verdict.feature_dim else ""
    status = "" if verdict.status in {"", "ok"} else f"status {verdict.status}"
    told = "; ".join(part for part in (size, status, *verdict.faults) if part)
    return f"{what}  {verdict.path}  {verdict.layout}{f'  {told}' if told else ''}"


def _finish(statuses: Sequence[StatusRow], dest: Path, *, as_json: bool) -> None:
    """Tell how the slides ended; slides that failed are no failure of the command, they have a status."""
    counts = Counter(str(row.status) for row in statuses)
    if as_json:
        slides = [{**row._asdict(), "status": str(row.status)} for row in statuses]
        typer.echo(json.dumps({"folder": str(dest), "counts": dict(counts), "slides": slides}, indent=1))
        return
    told = ", ".join(f"{counts[status]} {status}" for status in SlideStatus if counts[status])
    failed = [row.slide_id for row in statuses if row.status != SlideStatus.OK]
    say(f"{len(statuses)} slides: {told}; written to {dest}")
    if failed:
        warn(f"not ok: {listed(failed)}")
    if failed and len(failed) == len(statuses):
        raise RunFailed(f"none of {len(failed)} slides is ok; the first: {statuses[0].reason}")

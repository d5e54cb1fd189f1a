"""Command group annotations: check annotation files, convert them between programs."""

from pathlib import Path
from typing import Annotated

import typer

from wsi_kd.core.errors import BadInput

annotations_app = typer.Typer(
    help="Check and convert annotation files of QuPath, ASAP, ImageScope, HALO and NDP.view."
)

Slide = Annotated[
    Path | None,
    typer.Option("--slide", help="Slide of the annotations: its resolution, bounds and place on the glass."),
]
Mpp = Annotated[
    float | None, typer.Option("--slide-mpp", help="Resolution of level 0 in um/px, before the slide's own.")
]
Target = Annotated[
    str | None,
    typer.Option("--to", help="geojson, asap, imagescope or ndpa; default: told by the suffix of OUT."),
]


@annotations_app.command("check")
def annotations_check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Annotation files.")],
    *,
    slide: Slide = None,
    mpp: Mpp = None,
) -> None:
    """List areas by class, their size in mm2, what was repaired and what was passed over."""
    from wsi_kd.steps.annotations import check_annotations, told_drawing

    if slide is not None and len(files) > 1:
        raise BadInput(f"--slide is the slide of one annotation file, {len(files)} were given; check one")
    faults = []
    for path in files:
        try:
            checked = check_annotations(path, slide=slide, mpp=mpp)
        except BadInput as error:
            faults.append(str(error))
            continue
        typer.echo(f"{path}: {told_drawing(checked.drawing)}")
        for row in checked.classes:
            mm2, px2 = row.area_mm2, row.area_level0_px2
            size = f"{px2:.6g} level-0 px2" if mm2 is None else f"{mm2:.4g} mm2"
            holes = f", {row.holes} holes" if row.holes else ""
            typer.echo(f"  {row.name or '(no class)'}: {row.areas} areas{holes}, {size}")
    if faults:
        raise BadInput(f"{len(faults)} of {len(files)} files cannot be used: {'; '.join(faults)}")


@annotations_app.command("convert")
def annotations_convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Annotation file; its format is told by content.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File to write.")],
    *,
    file_format: Target = None,
    slide: Slide = None,
    mpp: Mpp = None,
) -> None:
    """Write annotations in another program's format; what it cannot hold is told."""
    from wsi_kd.steps.annotations import convert_annotations

    done = convert_annotations(source, target, file_format=file_format, slide=slide, mpp=mpp)
    told = "; ".join(done.losses) or "nothing lost"
    frame = "" if slide else "; without --slide its bounds are taken to start at 0, 0"
    formats = f"{done.read.format} to {done.file_format}"
    typer.echo(f"{target}: {len(done.read.annotations)} areas, {formats}: {told}{frame}")

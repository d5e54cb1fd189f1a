"""Command heatmap: pictures, pyramids and outlines of tile scores."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_kd.core.errors import BadInput, SlidesFailed
from wsi_kd.core.messages import say, warn

if TYPE_CHECKING:
    from wsi_kd.steps.heatmap import Made

DEFAULT_TIFF_UM_PER_PX = 2.0

Target = Annotated[
    Path,
    typer.Argument(metavar="RUN_OR_INFER_FOLDER", help="A run's results folder, or one that infer wrote."),
]
SlideIds = Annotated[
    list[str] | None, typer.Argument(metavar="[SLIDE_ID]...", help="Which slides; default: all with scores.")
]
Manifest = Annotated[Path | None, typer.Option("--manifest", help="slides.csv: where the slides are.")]
SlidesDir = Annotated[
    Path | None,
    typer.Option("--slides-dir", help="Folder of the slides: found by id, or as the manifest names them."),
]
Slide = Annotated[list[Path] | None, typer.Option("--slide", help="The file of a slide; may be repeated.")]
Model = Annotated[
    str,
    typer.Option("--model", help="Of a run: weno, weno/seed0 or weno/seed0/fold2; default: the student's."),
]
Mappings = Annotated[
    list[str] | None,
    typer.Option(
        "--mapping",
        help="student_probability, teacher_evidence, attention_softmax, attention_percentile, attention_raw; "
        "of more than two classes also of one: student_probability:low. May be repeated.",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        help="Outline regions at or above it; default for student_probability: the model's own for tiles.",
    ),
]
UmPerPx = Annotated[
    float | None, typer.Option("--um-per-px", min=1e-3, help="Of the picture; default: 1200 pixels across.")
]
Tiff = Annotated[bool, typer.Option("--tiff", help="Write a pyramidal OME-TIFF too.")]
TiffUmPerPx = Annotated[
    float | None,
    typer.Option("--tiff-um-per-px", min=1e-3, help="Of the pyramid's finest level; default: 2."),
]
Colormap = Annotated[str, typer.Option("--colormap", help="viridis or cividis.")]
Out = Annotated[Path | None, typer.Option("--out", help="Output folder; default: heatmaps in the folder.")]


def heatmap(
    target: Target,
    slide_ids: SlideIds = None,
    *,
    manifest: Manifest = None,
    slides_dir: SlidesDir = None,
    slide: Slide = None,
    model: Model = "",
    mapping: Mappings = None,
    threshold: Threshold = None,
    um_per_px: UmPerPx = None,
    tiff: Tiff = False,
    tiff_um_per_px: TiffUmPerPx = None,
    colormap: Colormap = "viridis",
    out: Out = None,
) -> None:
    """Draw tile scores over slides: picture, pyramid, tiles and regions. Research only: not for diagnosis."""
    from wsi_kd.steps.heatmap import run_heatmap
    from wsi_kd.steps.heatmap_files import Choice
    from wsi_kd.steps.known_slides import Sources

    wanted = tiff or tiff_um_per_px is not None
    made = run_heatmap(
        target,
        Sources(manifest, slides_dir, tuple(slide or ())),
        Choice(
            mappings=tuple(mapping or ()),
            threshold=threshold,
            um_per_px=um_per_px,
            tiff_um_per_px=(tiff_um_per_px or DEFAULT_TIFF_UM_PER_PX) if wanted else None,
            colormap=colormap,
        ),
        slide_ids=slide_ids or (),
        model=model,
        out=out,
        on_slide=_tell,
    )
    _judge(made)


def _tell(made: "Made") -> None:
    if made.files:
        say(f"heatmap: {made.slide_id}: {', '.join(made.files)} in {made.folder}", slide_id=made.slide_id)
    if made.outside:
        warn(
            f"{made.slide_id}: {made.outside} tiles lie outside the slide's bounds, in no picture",
            slide_id=made.slide_id,
        )


def _judge(made: "list[Made]") -> None:
    """Turn what is missing into an error.

    Raises:
        BadInput: the only slide has no file at all.
        SlidesFailed: something is missing of some slides.
    """
    failed = [one for one in made if one.problem]
    if len(made) == 1 and failed:
        kind = SlidesFailed if failed[0].files else BadInput
        raise kind(f"{failed[0].slide_id}: {failed[0].problem}")
    for one in failed:
        warn(f"{one.slide_id}: {one.problem}", slide_id=one.slide_id)
    if failed:
        raise SlidesFailed(f"of {len(made)} slides {len(failed)} lack pictures or all files; see above")

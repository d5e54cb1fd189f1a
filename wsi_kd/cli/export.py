"""Command export: a trained model for other programs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from wsi_kd.cli.infer_options import find_model
from wsi_kd.core.messages import say


def export(
    model: Annotated[Path, typer.Argument(help="Folder of one model: .../weno/seed0/fold0.")],
    *,
    out: Annotated[Path, typer.Option("--out", help="The file to write, e.g. weno.onnx.")],
    part: Annotated[
        Literal["student", "teacher", "both"],
        typer.Option("--part", help="student: tile by tile; teacher: bag probability, attention, evidence."),
    ] = "both",
) -> None:
    """Write a trained model as ONNX and check it: features of one slide's tiles in, probabilities out."""
    folder = find_model(model)
    from wsi_kd.steps.export import run_export

    exported = run_export(folder, out=out, part=part)
    if exported.difference is None:
        check = "not checked: onnxruntime is not installed; install it with: pip install wsi-kd[onnx]"
    else:
        check = f"largest difference from this program's answers: {exported.difference:.1e}"
    say(f"export: {out}: features (tiles, features) -> {', '.join(exported.outputs)}; {check}")

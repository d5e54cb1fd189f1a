"""Command infer: the whole line for single slides, with a trained model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from wsi_kd.bags.manifest import rows_of_slides
from wsi_kd.cli.options import Device
from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.core.records import SlideStatus, StatusRow

MODEL_HEADER = "model.json"
LISTED_MODELS = 12

Slides = Annotated[
    list[Path] | None,
    typer.Argument(help="Slide files, folders of slides, or CSV files with a column path."),
]
Features = Annotated[
    list[Path] | None,
    typer.Option(
        "--features",
        help="Instead of slides: feature files or folders of them, ours or another program's.",
    ),
]
Model = Annotated[Path, typer.Option("--model", help="Folder of one model: .../weno/seed0/fold0.")]
Out = Annotated[Path, typer.Option("--out", help="Output folder; several slides each get a folder in it.")]
SlideMpp = Annotated[
    float | None,
    typer.Option("--slide-mpp", help="Resolution in um/px of all these slides; goes before their metadata."),
]
Weights = Annotated[
    Path | None, typer.Option("--weights", help="The encoder's weight file, if it has moved since training.")
]
MaskNetwork = Annotated[
    Path | None,
    typer.Option("--mask-network", help="The segmentation network, if it has moved since training."),
]
EncoderName = Annotated[
    str, typer.Option("--encoder", help="With --features: what made them, where the files do not say.")
]
MaxFailed = Annotated[
    int, typer.Option("--max-failed", min=0, help="Of several slides, how many may fail with exit code 0.")
]


def infer(
    slides: Slides = None,
    *,
    model: Model,
    out: Out,
    features: Features = None,
    slide_mpp: SlideMpp = None,
    device: Device = "auto",
    weights: Weights = None,
    mask_network: MaskNetwork = None,
    encoder: EncoderName = "",
    max_failed: MaxFailed = 0,
) -> None:
    """Score slides with a trained model: prediction.json, tiles.csv, tiles.geojson, heatmap.png."""
    model_dir = find_model(model)
    if bool(slides) == bool(features):
        raise BadInput("give either slides or --features FILE, not both or none")
    if features:
        _infer_features(
            features,
            model_dir,
            out,
            device=device,
            encoder=encoder,
            slide_mpp=slide_mpp,
            max_failed=max_failed,
        )
        return
    rows = rows_of_slides(slides or [], slide_mpp)
    from wsi_kd.steps.infer import run_infer

    statuses = run_infer(
        rows,
        model_dir=model_dir,
        out_dir=out,
        device=device,
        weights=weights,
        mask_network_file=mask_network,
        on_slide=_tell if len(rows) > 1 else _tell_success,
    )
    judge(statuses, max_failed=max_failed)
    typer.echo(f"written to {out}; research only, not for diagnosis")


def _infer_features(
    features: Sequence[Path],
    model_dir: Path,
    out: Path,
    *,
    device: str,
    encoder: str,
    slide_mpp: float | None,
    max_failed: int,
) -> None:
    from wsi_kd.steps.infer_features import GivenFeatures, run_infer_features

    statuses = run_infer_features(
        features,
        model_dir=model_dir,
        out_dir=out,
        device=device,
        given=GivenFeatures(encoder=encoder, slide_mpp=slide_mpp),
        on_slide=_tell_success if len(features) == 1 and features[0].is_file() else _tell,
    )
    judge(statuses, max_failed=max_failed)
    typer.echo(f"written to {out}; research only, not for diagnosis")


def find_model(folder: Path) -> Path:
    """Return the folder of the one model in `folder`, itself or below it.

    Raises:
        BadInput: there is none, or there are several (they are listed).
    """
    if (folder / MODEL_HEADER).is_file():
        return folder
    found = sorted(header.parent for header in folder.rglob(MODEL_HEADER)) if folder.is_dir() else []
    if not found:
        raise BadInput(
            f"--model {folder}: no {MODEL_HEADER} there; "
            "expected a folder such as results/demo/models/weno/seed0/fold0"
        )
    if len(found) > 1:
        named = ", ".join(str(model) for model in found[:LISTED_MODELS])
        more = f" and {len(found) - LISTED_MODELS} more" if len(found) > LISTED_MODELS else ""
        raise BadInput(f"--model {folder}: holds {len(found)} models; name one of: {named}{more}")
    return found[0]


def judge(statuses: Sequence[StatusRow], *, max_failed: int) -> None:
    """Turn failed slides into an error.

    Raises:
        BadInput: the only slide failed.
        RunFailed: of several slides, more than `max_failed` did.
    """
    failed = [row for row in statuses if row.status != SlideStatus.OK]
    if len(statuses) == 1 and failed:
        raise BadInput(f"{failed[0].slide_id}: {failed[0].status}: {failed[0].reason}")
    if len(failed) > max_failed:
        raise RunFailed(
            f"{len(failed)} of {len(statuses)} slides failed, --max-failed allows {max_failed}; "
            "their prediction.json say why"
        )


def _tell_success(row: StatusRow) -> None:
    """Tell how a single slide ended; where it failed the error line says so, once."""
    if row.status == SlideStatus.OK:
        _tell(row)


def _tell(row: StatusRow) -> None:
    typer.echo(f"{row.slide_id}: {row.status}{f': {row.reason}' if row.reason else f', {row.tiles} tiles'}")

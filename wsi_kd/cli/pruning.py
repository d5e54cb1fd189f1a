"""Command prune: a trained model, narrower."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wsi_kd.cli.infer_options import find_model
from wsi_kd.cli.options import ConfigFile, ManifestFile, ResultsDir, SettingsJson, SlidesDir, open_run
from wsi_kd.core.messages import say

if TYPE_CHECKING:
    from wsi_kd.steps.prune import Pruned


def prune(
    model: Annotated[Path, typer.Argument(help="Folder of the wide model: .../weno/seed0/fold0.")],
    out: Annotated[Path, typer.Argument(help="Folder for the narrow model.")],
    *,
    keep: Annotated[int | None, typer.Option("--keep", help="Keep so many neurons, the best ones.")] = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", help="Keep neurons above this share of the best one's score, e.g. 0.05."),
    ] = None,
    knee: Annotated[
        float | None,
        typer.Option(
            "--knee", help="Keep the fewest that raise the validation loss by at most so much, e.g. 0.05."
        ),
    ] = None,
    layer: Annotated[
        Literal["projector", "student"],
        typer.Option("--layer", help="projector, or student: the student's hidden layer."),
    ] = "projector",
    settings: SettingsJson = None,
    config: ConfigFile = None,
    manifest: ManifestFile = None,
    slides_dir: SlidesDir = None,
    results_dir: ResultsDir = None,
) -> None:
    """Narrow a trained model, best one of train.spectral: model, validation slides -> a checkpoint."""
    run = open_run(
        settings=settings, config=config, manifest=manifest, slides_dir=slides_dir, results_dir=results_dir
    )
    from wsi_kd.steps.prune import Wanted, run_prune

    pruned = run_prune(
        run.manifest(),
        model_dir=find_model(model),
        out_dir=out,
        features_dir=run.layout.folder("embed"),
        splits_path=run.layout.splits,
        layer=layer,
        wanted=Wanted(keep, threshold, knee),
        settings=run.settings,
    )
    _tell(pruned)
    say(f"prune: {out}")


def _tell(pruned: "Pruned") -> None:
    typer.echo("neurons  validation loss")
    for cut in pruned.curve:
        typer.echo(f"{cut.kept:7d}  {cut.error:.4f}")
    typer.echo(
        f"active (above a twentieth of the best): {pruned.active} of {pruned.neurons}; kept {pruned.kept}: "
        f"validation loss {pruned.loss:.4f}, wide {pruned.wide_loss:.4f}"
    )

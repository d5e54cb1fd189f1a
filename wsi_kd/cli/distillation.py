"""Commands of distillation on data of any kind: distill."""

from pathlib import Path
from typing import Annotated

import typer

from wsi_kd.core.errors import BadInput
from wsi_kd.core.messages import say


def distill(
    *,
    config: Annotated[Path, typer.Option("--config", help="What to distill (YAML); see configs/kd.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Output folder; default: results/kd/<name of the file>.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a setting, such as train.epochs=5."),
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Print the layers that losses on features can read, and stop.")
    ] = False,
) -> None:
    """Distill any teacher into any student on any data: settings file -> student, scores, costs, history."""
    from wsi_kd.settings.distill import read_distill_settings
    from wsi_kd.settings.distill_encoder import is_of_tiles, read_encoder_settings

    folder = Path("results") / "kd" / config.stem if out is None else out
    if is_of_tiles(config):
        if layers:
            raise BadInput(
                f"{config}: data `tiles` compares both encoders' features; no layers are named there"
            )
        encoder_settings = read_encoder_settings(config, changes=changes or ())
        from wsi_kd.steps.distill_encoder import run_distill_encoder

        made = run_distill_encoder(encoder_settings, out=folder, say=say)
        say(f"distill: {made}; use it with embed.encoder: distilled:{made}")
        return
    settings = read_distill_settings(config, changes=changes or ())
    from wsi_kd.steps.distill import describe_layers, run_distill

    if layers:
        for line in describe_layers(settings):
            typer.echo(line)
        return
    distilled = run_distill(settings, out=folder, say=say)
    of_teachers = "".join(
        f", teacher {number} {scores.accuracy:.3f}"
        for number, scores in enumerate(distilled.teachers, start=1)
    )
    say(f"test accuracy: student {distilled.student.accuracy:.3f}{of_teachers}")
    say(f"distill: {distilled.result}")

"""Command demo-cohort: draw the embedded demo slides."""

from pathlib import Path
from typing import Annotated

import typer

from wsi_kd.core.messages import say


def demo_cohort(
    *,
    out: Annotated[Path, typer.Argument(help="Folder for the slides, annotations and slides.csv.")],
    slides: Annotated[
        int, typer.Option("--slides", help="Number of slides, even, the four odd ones included.")
    ] = 44,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the drawing.")] = 0,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes; 0: one a CPU core.")] = 0,
) -> None:
    """Draw H&E-like pyramidal slides with known tumor regions, and their slides.csv."""
    from wsi_kd.core.machine import usable_cpus
    from wsi_kd.demo.cohort import draw_cohort

    manifest = draw_cohort(out, slides=slides, seed=seed, workers=workers or usable_cpus())
    say(f"{slides} slides drawn, listed in {manifest}")

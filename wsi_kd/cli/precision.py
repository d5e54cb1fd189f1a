"""Command check-precision: do a model's answers stand when tiles are encoded in fewer bits, or compiled?"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wsi_kd.cli.infer_options import MODEL_HEADER, find_model
from wsi_kd.cli.layout import Layout
from wsi_kd.cli.options import (
    ConfigFile,
    Fold,
    ManifestFile,
    ResultsDir,
    Seed,
    SettingsJson,
    SlidesDir,
    open_run,
)
from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.core.messages import say

if TYPE_CHECKING:
    from wsi_kd.inference.logit_gate import SlideChange, Verdict

RecipeName = Annotated[
    str, typer.Option("--recipe", help="Check this recipe's model alone; default: that of every recipe.")
]
Models = Annotated[
    list[Path] | None,
    typer.Option("--model", help="Instead of recipe, seed and fold: a model's folder. May be repeated."),
]
Slides = Annotated[
    int, typer.Option("--slides", min=1, help="How many slides, by turns of the classes, test part first.")
]
Tiles = Annotated[int, typer.Option("--tiles", min=1, help="Tiles of each slide, evenly spread.")]
Precision = Annotated[
    Literal["bfloat16"] | None,
    typer.Option("--precision", help="What it would change, where the settings do not ask for it."),
]
Compile = Annotated[
    bool, typer.Option("--compile", help="What embed.compile would change, where it is not set; on a GPU.")
]


def check_precision(
    *,
    recipe: RecipeName = "",
    seed: Seed = 0,
    fold: Fold = 0,
    model: Models = None,
    slides: Slides = 4,
    tiles: Tiles = 512,
    precision: Precision = None,
    compiled: Compile = False,
    settings: SettingsJson = None,
    config: ConfigFile = None,
    manifest: ManifestFile = None,
    slides_dir: SlidesDir = None,
    results_dir: ResultsDir = None,
) -> None:
    """Hold bfloat16 or compiled features against float32, by a finished run's models -> precision.json.

    Ends with 0 where no slide logit changes by more than 0.01 and no tile's cosine is below 0.999, else 1.
    """
    run = open_run(
        settings=settings, config=config, manifest=manifest, slides_dir=slides_dir, results_dir=results_dir
    )
    if model and recipe:
        raise BadInput("give either --recipe or --model, not both")
    from wsi_kd.steps.check_precision import Asked, run_check_precision

    checked = run_check_precision(
        run.manifest(look_for_slides=False),
        model_dirs=[find_model(one) for one in model or ()] or _models(run.layout, recipe, seed, fold=fold),
        models_dir=run.layout.models,
        features_dir=run.layout.folder("embed"),
        splits_path=run.layout.splits,
        out_path=run.layout.precision,
        settings=run.settings,
        asked=Asked(slides, tiles, precision or "", compiled),
    )
    if checked.verdict is None:
        say(f"check-precision: nothing to check: {checked.nothing}")
        return
    _print(checked.slides, how=checked.how)
    _judge(checked.verdict, how=checked.how)


def _models(layout: Layout, recipe: str, seed: int, *, fold: int) -> list[Path]:
    """Return the folder of one recipe's model, or those of all that were trained."""
    if recipe:
        return [layout.model(recipe, seed, fold)]
    found = layout.models.glob(f"*/seed{seed}/fold{fold}/{MODEL_HEADER}")
    return sorted(path.parent for path in found)


def _print(slides: "Sequence[SlideChange]", *, how: str) -> None:
    """Show the least cosine of every slide, and the logit of every model and score that changes most."""
    table = Table(title=f"{how}, against float32", pad_edge=False, collapse_padding=True)
    for name in ("slide", "tiles", "cosine", "logit of", "float32", "found", "change"):
        table.add_column(name, overflow="fold")
    short = _short_names(list(dict.fromkeys(one.model for slide in slides for one in slide.logits)))
    for slide in slides:
        head = (slide.slide_id, str(slide.tiles), f"{slide.least_cosine:.6f}")
        for model, score in dict.fromkeys((one.model, one.score) for one in slide.logits):
            of_score = [one for one in slide.logits if (one.model, one.score) == (model, score)]
            most = max(of_score, key=lambda one: one.change)
            of = " ".join(part for part in (short[model], score, most.label) if part)
            cells = (*head, of, f"{most.exact:.4f}", f"{most.found:.4f}", f"{most.change:.4f}")
            table.add_row(*map(Text, cells))
            head = ("", "", "")
    Console().print(table)


def _short_names(models: Sequence[str]) -> dict[str, str]:
    """Leave out of models' names what all of them share.

    >>> _short_names(["abmil/seed0/fold1", "weno/seed0/fold1"])
    {'abmil/seed0/fold1': 'abmil', 'weno/seed0/fold1': 'weno'}
    >>> _short_names(["weno/seed0/fold1"])
    {'weno/seed0/fold1': ''}
    """
    differ = [len(set(parts)) > 1 for parts in zip(*(model.split("/") for model in models), strict=True)]
    return {model: "/".join(itertools.compress(model.split("/"), differ)) for model in models}


def _judge(verdict: "Verdict", *, how: str) -> None:
    """Say what was found.

    Raises:
        RunFailed: something is beyond a limit.
    """
    told = (
        f"least cosine {verdict.least_cosine:.6f}, largest change of a logit {verdict.largest_change:.2g}; "
        f"of rounding float32 to the stored type alone {verdict.largest_rounding_change:.2g}"
    )
    if not verdict.fault:
        say(f"check-precision: {how}: passed: {told}")
        return
    remedy = (
        "embed it anew with: wsi-kd embed"
        if verdict.is_of_file
        else "embed with embed.precision: float32 and without embed.compile"
    )
    raise RunFailed(f"{how}: {verdict.fault}; {remedy}")

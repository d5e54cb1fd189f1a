"""Options of infer, and what they decide together: which models, which layout, which exit code."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from wsi_kd.bags.manifest import TABLE_SUFFIXES
from wsi_kd.bags.slide_files import is_folder, is_slide_folder
from wsi_kd.bags.slide_search import is_pattern
from wsi_kd.core.errors import BadInput, SlidesFailed
from wsi_kd.core.records import SlideStatus, StatusRow

MODEL_HEADER = "model.json"
LISTED_MODELS = 12
LISTED_SLIDES = 10
"""Failed slides that an error names; the table names all."""

Slides = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Slide files, folders of slides, quoted patterns ('scans/**/*.svs'), or CSV files with a "
        "column path."
    ),
]
Features = Annotated[
    list[Path] | None,
    typer.Option(
        "--features",
        help="Instead of slides: feature files or folders of them, ours or another program's.",
    ),
]
WatchFolder = Annotated[
    Path | None,
    typer.Option(
        "--watch", help="Instead of slides: a folder whose slides are scored as they come in, until Ctrl-C."
    ),
]
SettleSeconds = Annotated[
    float,
    typer.Option(
        "--settle-seconds", min=0.1, help="With --watch: a slide is whole when its files are still so long."
    ),
]
PollSeconds = Annotated[
    float, typer.Option("--poll-seconds", min=0.1, help="With --watch: time between two looks at the folder.")
]
Models = Annotated[
    list[Path],
    typer.Option("--model", help="Folder of one model: .../weno/seed0/fold0. Several are an ensemble."),
]
Ensemble = Annotated[
    bool,
    typer.Option(
        "--ensemble", help="Take every model below --model: mean probability, and its spread over the models."
    ),
]
Out = Annotated[
    Path,
    typer.Option("--out", help="Output folder; slides of a folder, pattern or CSV each get a folder in it."),
]
Recursive = Annotated[bool, typer.Option("--recursive", help="Search the subfolders of folders too.")]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Keep what these models have scored already, from the same files; --watch always does.",
    ),
]
SlideMpp = Annotated[
    float | None,
    typer.Option("--slide-mpp", help="Resolution in um/px of all these slides; goes before their metadata."),
]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", help="The encoder's weight file; a model records its name and hash."),
]
MaskNetwork = Annotated[
    Path | None,
    typer.Option("--mask-network", help="The segmentation network; a model records its name and hash."),
]
EditedDir = Annotated[
    Path | None,
    typer.Option("--edited-dir", help="Folder of hand-drawn outlines of tissue, as mask.edited_dir."),
]
EncoderName = Annotated[
    str, typer.Option("--encoder", help="With --features: what made them, where the files do not say.")
]
MaxFailed = Annotated[
    int,
    typer.Option("--max-failed", min=0, help="How many slides may fail with exit code 0; more end with 3."),
]


class Given(NamedTuple):
    """What was asked for, as all three kinds of input need it."""

    model_dirs: tuple[Path, ...]
    out: Path
    device: str
    slide_mpp: float | None
    weights: Path | None
    mask_network: Path | None
    edited_dir: Path | None
    max_failed: int


def refuse_idle(options: Mapping[str, object], of: str) -> None:
    """Refuse options that would do nothing here; they are for `of`.

    Raises:
        BadInput: one of them is given.
    """
    idle = [name for name, value in options.items() if value]
    if idle:
        raise BadInput(f"{', '.join(idle)}: only with {of}, does nothing here; leave it out")


def find_models(folders: Sequence[Path], *, ensemble: bool) -> tuple[Path, ...]:
    """Return the folders of the models that were named: each the only one there, or with `ensemble` all.

    Raises:
        BadInput: there is none, several without `ensemble`, or one model only with it.
    """
    if not ensemble:
        return tuple(find_model(folder) for folder in folders)
    found = tuple(dict.fromkeys(model for folder in folders for model in _models_below(folder)))
    if len(found) == 1:
        raise BadInput(f"--ensemble: {found[0]} is the only model there; name a folder of several folds")
    return found


def find_model(folder: Path) -> Path:
    """Return the folder of the one model in `folder`, itself or below it.

    Raises:
        BadInput: there is none, or there are several (they are listed).
    """
    found = _models_below(folder)
    if len(found) > 1:
        named = ", ".join(str(model) for model in found[:LISTED_MODELS])
        more = f" and {len(found) - LISTED_MODELS} more" if len(found) > LISTED_MODELS else ""
        raise BadInput(f"--model {folder}: holds {len(found)} models; name one of: {named}{more}")
    return found[0]


def lies_alone(slides: Sequence[Path]) -> bool:
    """Tell whether one slide's file was named: its files then lie in the output folder itself.

    A folder, a pattern or a table may hold one slide today and two tomorrow: their slides get folders.
    """
    if len(slides) != 1 or is_pattern(slides[0]):
        return False
    (path,) = slides
    return (not is_folder(path) or is_slide_folder(path)) and path.suffix.lower() not in TABLE_SUFFIXES


def judge(statuses: Sequence[StatusRow], *, max_failed: int) -> None:
    """Turn failed slides into an error.

    Raises:
        SlidesFailed: more than `max_failed` of several slides, or the only one.
    """
    failed = [row for row in statuses if row.status != SlideStatus.OK]
    if len(statuses) == 1 and failed and not max_failed:
        (row,) = failed
        raise SlidesFailed(f"{row.slide_id}: {row.status}: {row.reason}", slide_id=row.slide_id)
    if len(failed) > max_failed:
        named = "; ".join(f"{row.slide_id} ({row.status}: {row.reason})" for row in failed[:LISTED_SLIDES])
        more = f"; and {len(failed) - LISTED_SLIDES} more" if len(failed) > LISTED_SLIDES else ""
        raise SlidesFailed(
            f"{len(failed)} of {len(statuses)} slides failed, --max-failed allows {max_failed}: {named}{more}"
        )


def _models_below(folder: Path) -> list[Path]:
    if (folder / MODEL_HEADER).is_file():
        return [folder]
    found = sorted(header.parent for header in folder.rglob(MODEL_HEADER)) if folder.is_dir() else []
    if not found:
        raise BadInput(
            f"--model {folder}: no {MODEL_HEADER} there; "
            "expected a folder such as results/demo/models/weno/seed0/fold0"
        )
    return found

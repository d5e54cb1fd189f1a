"""The command `wsi-kd`: one command a step, errors as one line, nothing heavy loaded until it is needed."""

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import typer
from typer.exceptions import TyperException

from wsi_kd.cli.adopt import adopt
from wsi_kd.cli.annotations import annotations_app
from wsi_kd.cli.check import check_status, summary
from wsi_kd.cli.claims import methods, reproduce
from wsi_kd.cli.configuration import config_app
from wsi_kd.cli.crash_guard import is_guarded, stand_guard
from wsi_kd.cli.demo import demo_cohort
from wsi_kd.cli.distillation import distill
from wsi_kd.cli.doctor import doctor
from wsi_kd.cli.encoders import encoders
from wsi_kd.cli.exchange import manifest_app, splits_app
from wsi_kd.cli.export import export
from wsi_kd.cli.features import features_app
from wsi_kd.cli.heatmap import heatmap
from wsi_kd.cli.infer import infer
from wsi_kd.cli.info import info
from wsi_kd.cli.models import predict, split, train
from wsi_kd.cli.precision import check_precision
from wsi_kd.cli.pruning import prune
from wsi_kd.cli.qc import qc
from wsi_kd.cli.results import evaluate, report
from wsi_kd.cli.slides import embed, mask, stain, tile
from wsi_kd.cli.verify import verify
from wsi_kd.cli.view import view
from wsi_kd.cli.words import take_words, tell_everywhere
from wsi_kd.core.errors import BadInput, WsiKdError
from wsi_kd.core.messages import fail, listening

app = typer.Typer(
    name="wsi-kd",
    help="Whole-slide images and slide labels in; a WENO classifier, its heatmaps and its limits out. "
    "Research only: not for diagnosis.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={
        "token_normalize_func": lambda token: token.replace("_", "-"),
        "help_option_names": ["-h", "--help"],
    },
)
PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Start here": (doctor, info, encoders, demo_cohort, infer),
    "The line, one command a step": (mask, tile, stain, embed, qc, split, train, predict, evaluate, report),
    "With features or splits made elsewhere": (adopt,),
    "After a run": (check_status, summary, verify, check_precision, heatmap, view, prune, export),
    "Distillation on any data": (distill, methods, reproduce),
}
for _panel, _commands in PANELS.items():
    for _command in _commands:
        app.command(_command.__name__.replace("_", "-"), rich_help_panel=_panel)(_command)
app.add_typer(config_app, name="config", rich_help_panel="Start here")
for _name, _group in {"features": features_app, "splits": splits_app, "manifest": manifest_app}.items():
    app.add_typer(_group, name=_name, rich_help_panel="With features or splits made elsewhere")
app.add_typer(annotations_app, name="annotations", rich_help_panel="Start here")
tell_everywhere(app)
GROUPS = {group.name for group in app.registered_groups if group.name}

INTERRUPTED = 130
TERMINATED = 143
BROKEN_PIPE = 141


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit, one line saying why.

    0 done, 1 the run failed, 2 bad input, 3 slides failed, 75 another process works there, 130 interrupted.
    """
    given = sys.argv[1:] if arguments is None else arguments
    words = take_words(given, groups=GROUPS).words
    if is_guarded(words, given):
        stand_guard(words)  # from here on this is a child that may die of a slide
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(given))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; an error nobody foresaw is a bug and keeps its traceback."""
    spoken = take_words(arguments, groups=GROUPS)
    with listening(spoken.words):
        return _run(spoken.arguments)


def _run(arguments: list[str]) -> int:
    try:
        returned: Any = app(arguments or ["--help"], standalone_mode=False)
    except (WsiKdError, TyperException, PermissionError, MemoryError) as error:
        return _tell(error)
    except KeyboardInterrupt:
        returned = INTERRUPTED
    except BrokenPipeError:
        sys.stdout = None  # the reader is gone: nothing left to flush at exit
        return BROKEN_PIPE
    if returned == INTERRUPTED:
        return _fail(
            "interrupted; finished files are whole, run the same command again to go on", INTERRUPTED
        )
    return returned if isinstance(returned, int) else 0


def _tell(error: Exception) -> int:
    match error:
        case WsiKdError():
            return _fail(str(error), error.exit_code, slide_id=error.slide_id)
        case TyperException():
            return _fail(f"{error.format_message()} (see wsi-kd --help)", error.exit_code)
        case PermissionError():  # of a folder on the way, which no check of a file foresees
            remedy = "change its rights, or those of a folder above it"
            return _fail(f"{error.filename}: {error.strerror}; {remedy}", BadInput.exit_code)
    return _fail(f"not enough memory ({error}); give it more, or fewer threads (OMP_NUM_THREADS)", 1)


def _fail(message: str, code: int, *, slide_id: str = "") -> int:
    fail(" ".join(message.split()), slide_id=slide_id)
    return code


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is sent to a process group may arrive twice
    sys.exit(TERMINATED)  # unwinds, so that unfinished temporary files are removed

"""Functions of the user's, named as `python:module.function`: the only import a file can ask for."""

import importlib
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from wsi_kd.core.errors import BadInput, WsiKdError, unknown_name

PREFIX: Final = "python:"
SHOWN_NAMES: Final = 5
OURS: Final = "wsi_kd"


def load_function(name: str) -> Callable[..., Any]:
    """Import `python:module.function`; modules of the current folder are found too.

    Raises:
        BadInput: another form, a module that cannot be imported, nothing callable of that name in it.
    """
    module_name, _, function_name = name.removeprefix(PREFIX).rpartition(".")
    if not name.startswith(PREFIX) or not module_name:
        raise BadInput(f"'{name}': expected python:module.function")
    with _current_folder_importable():
        try:
            module = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:  # the user's module may raise anything while it is imported
            what = " ".join(f"{type(error).__name__}: {error}".split())
            raise BadInput(
                f"'{name}': {module_name} cannot be imported ({what}); install it, or run where it lies"
            ) from None
    found: Any = getattr(module, function_name, None)
    if found is None:
        public = [other for other, value in vars(module).items() if callable(value) and other[0] != "_"]
        near = get_close_matches(function_name, public, n=SHOWN_NAMES, cutoff=0.0)
        raise unknown_name(f"function of {module_name}", function_name, near)
    if not callable(found):
        raise BadInput(f"'{name}': it is {type(found).__name__}; expected a function")
    return found  # type: ignore[no-any-return]  # callable, as was just asked


@contextmanager
def faults_of(names: Iterable[str]) -> Iterator[None]:
    """Tell in one line what code of the user's raised while it ran: where, and what.

    Args:
        names: those in the settings, of which the ones with the prefix name the user's modules.

    Raises:
        BadInput: an error that came out of one of these modules; any other stays what it is.
    """
    modules = {name.removeprefix(PREFIX).partition(".")[0] for name in names if name.startswith(PREFIX)}
    try:
        yield
    except WsiKdError:
        raise
    except Exception as error:  # the user's code may raise anything
        place = _place(error, modules - {OURS})
        if place is None:
            raise
        raise BadInput(f"{place} raised {type(error).__name__}: {_last_line(error)}; mend it") from error


def _place(error: Exception, modules: set[str]) -> str | None:
    """Name the innermost line of these modules that the error came through."""
    places = [
        f"{frame.f_code.co_filename}, line {line}, in {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] in modules
    ]
    if not places and modules and "in DataLoader worker" in str(error):
        return "your data set, in a process of its loader,"
    return places[-1] if places else None


def _last_line(error: Exception) -> str:
    """Return what it says; one out of a loader's process has a traceback as text before it."""
    told = str(error).rpartition(f"\n{type(error).__name__}: ")[2]
    return " ".join(told.split())


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)

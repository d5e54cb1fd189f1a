"""Functions of the user's, named as `python:module.function`: the only import a file can ask for."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from wsi_kd.core.errors import BadInput, unknown_name

PREFIX: Final = "python:"


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
        except Exception as error:  # the user's module may raise anything while it is imported
            what = " ".join(f"{type(error).__name__}: {error}".split())
            raise BadInput(
                f"'{name}': {module_name} cannot be imported ({what}); install it, or run where it lies"
            ) from None
    found: Any = getattr(module, function_name, None)
    if found is None:
        public = [other for other, value in vars(module).items() if callable(value) and other[0] != "_"]
        raise unknown_name(f"function of {module_name}", function_name, public)
    if not callable(found):
        raise BadInput(f"'{name}': it is {type(found).__name__}; expected a function")
    return found  # type: ignore[no-any-return]  # callable, as was just asked


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)

"""The HDF5 library can crash or hang on a damaged file: a child process tries it first, and alone may die.

Our own files are hashed before the library sees them; other programs' files have no hash. A crash would end
a whole cohort, and no status would say which slide it was.
"""

import faulthandler
import os
import signal
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from wsi_kd.core.errors import BadInput
from wsi_kd.features.store import Hdf5Dataset, Hdf5File

LIMIT_S: Final = 20
"""A look at one file's index takes milliseconds; what takes this long hangs."""


def refuse_what_crashes(path: Path) -> None:
    """Look over the file's index, attributes and the ends of its arrays in a child process.

    Costs a fork and some 10 ms. Errors that the library tells are left to the reader, who tells them too.

    Raises:
        BadInput: the child died of it, or hung.
    """
    if path.is_file() and not survives(lambda: _look_over(path)):
        raise BadInput(
            f"{path}: not readable (the HDF5 library crashes or hangs on it: a damaged file); "
            "make it anew with: the program that wrote it"
        )


def survives(work: Callable[[], None], *, limit_s: int = LIMIT_S) -> bool:
    """Run `work` in a child process; False if the child was killed by a signal, its own alarm included."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        child = os.fork()  # the child calls nothing that another thread could hold a lock of
    if child == 0:
        faulthandler.disable()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(limit_s)
        with suppress(BaseException):
            work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return not os.WIFSIGNALED(status)


def _look_over(path: Path) -> None:
    with Hdf5File(path, "r", locking=False) as file:
        dict(file.attrs)
        for name in list(file):
            with suppress(Exception):
                _look_at(file[name])


def _look_at(dataset: Hdf5Dataset) -> None:
    dict(dataset.attrs)
    if dataset.chunks is not None:
        dataset.id.get_num_chunks()  # walks the whole index, as reading does
    for row in (0, -1):
        dataset[row]

"""Which of a machine's GPUs a job takes: one that no other job of this user holds.

A job holds a card by a lock on a small file that is named after it. The kernel releases the lock when the job
ends, however it ends: nothing is left to clean up. Only programs that ask here are seen.
"""

import fcntl
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from wsi_kd.core.errors import RunFailed


class HeldCard(NamedTuple):
    """A card that this process computes on."""

    place: int
    """Among the cards that this process may see."""
    lock: int | None
    """Open file that holds it for as long as the process lives; None: another job computes there too."""


def lock_folder() -> Path:
    """Return the folder of this user's locks on this machine, which is made where there is none.

    In `XDG_RUNTIME_DIR` where the system gives users one (batch systems name one that is not there), else in
    the folder of temporary files.

    Raises:
        RunFailed: it cannot be made, or it is another user's.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    has_runtime = runtime and os.access(runtime, os.W_OK | os.X_OK)
    folder = (
        Path(runtime) / "wsi-kd" if has_runtime else Path(tempfile.gettempdir()) / f"wsi-kd-{os.getuid()}"
    )
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        facts = folder.lstat()
    except OSError as error:
        raise RunFailed(
            f"{folder}: the folder of the cards' locks cannot be made ({error.strerror}); set TMPDIR"
        ) from None
    if facts.st_uid != os.getuid() or folder.is_symlink():
        raise RunFailed(f"{folder}: not this user's own folder; remove it, or set TMPDIR to another place")
    return folder


def hold_card(names: Sequence[str], folder: Path, *, wanted: int | None = None) -> HeldCard:
    """Hold the first card that is free, or the `wanted` one; where none is, share one.

    Jobs that must share are spread: each takes the card that follows from its process id.

    Args:
        names: what tells the cards apart on every machine (their UUIDs), in the order of their indices.
        folder: where the locks are.
        wanted: the only card that will do.
    """
    indices = range(len(names)) if wanted is None else [wanted]
    for index in indices:
        lock = _lock(folder / f"card-{names[index].replace(os.sep, '-')}.lock")
        if lock is not None:
            return HeldCard(index, lock)
    return HeldCard(indices[os.getpid() % len(indices)], None)


def _lock(path: Path) -> int | None:
    """Return an open file that is locked for this process alone; None where another one holds it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or a file system that knows no locks
        os.close(lock)
        return None
    return lock

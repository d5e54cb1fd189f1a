"""One run at a time in a results folder: a lock that the kernel lets go of when its process ends, however.

Snakemake's own lock is a file that outlives a killed run, and the end of any other run in the same directory
removes it; this one is `flock` on `<results_dir>/.wsi-kd.lock`. The file stays, and says who held it last.
"""

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from wsi_kd.core.errors import Busy
from wsi_kd.core.files import writable_folder
from wsi_kd.core.messages import warn

LOCK_NAME: Final = ".wsi-kd.lock"
_HELD_BYTES: Final = 512


class RunLock:
    """The lock of one results folder. Make it before the run is planned, `hold` it before anything is done.

    A run that was planned while another one worked would do again what that one has done: `hold` refuses it
    even where the other has ended since.
    """

    def __init__(self, results_dir: Path) -> None:
        self.path = results_dir / LOCK_NAME
        self.seen = self._last_holder()
        self._descriptor: int | None = None

    def hold(self) -> None:
        """Take the lock and keep it until `release` or the end of the process.

        Where the file system knows no locks one line warns, and nobody is held off.

        Raises:
            Busy: another run works there, or has done so since this one was planned.
            RunFailed: the folder cannot be made or written.
        """
        writable_folder(self.path.parent)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            known = lock_or_refuse(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise Busy(
                f"busy: another run ({self._last_holder()}) works on {self.path.parent}; "
                "wait for it, or choose another run.results_dir"
            ) from None
        holder = self._last_holder()
        if holder and holder != self.seen:
            os.close(descriptor)
            raise Busy(
                f"busy: another run ({holder}) worked on {self.path.parent} while this one was planned; "
                "start it again"
            )
        if not known:
            warn(f"{self.path.parent}: no locks on this file system; see that no second run works there")
        self._descriptor = descriptor
        self._sign(descriptor)

    def release(self) -> None:
        """Let go of the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _last_holder(self) -> str:
        try:
            with self.path.open("rb") as handle:
                return handle.read(_HELD_BYTES).decode(errors="replace").strip()
        except OSError:
            return ""

    def _sign(self, descriptor: int) -> None:
        since = datetime.now(UTC).isoformat(timespec="microseconds")
        holder = f"pid {os.getpid()}, host {platform.node()}, since {since}\n"
        os.pwrite(descriptor, holder.encode()[:_HELD_BYTES], 0)
        os.ftruncate(descriptor, len(holder.encode()[:_HELD_BYTES]))


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made where there is none, for this process alone; a killed one holds nothing.

    Where the file system knows no locks nobody is held off.

    Raises:
        Busy: another process holds it.
        RunFailed: it cannot be made or written.
    """
    writable_folder(folder)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock_folder(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock_folder(descriptor: int, folder: Path) -> None:
    try:
        lock_or_refuse(descriptor)
    except BlockingIOError:
        raise Busy(
            f"busy: another wsi-kd writes to {folder}; stop it, or choose another output folder"
        ) from None


def lock_or_refuse(descriptor: int) -> bool:
    """Lock an open file or folder for this process; return False where its file system knows no locks.

    Raises:
        BlockingIOError: another process has it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True

"""Hidden names that files have while they are written, and what killed processes left under such names.

A name says who writes: `.tmp-<process>@<host>-<final name>`. A process of this host is dead when it is gone;
of another host (the folder may be shared, or this be a container) what a day old file is left of.
"""

import os
import platform
import re
import time
from functools import lru_cache
from pathlib import Path
from typing import Final

HIDDEN: Final = ".tmp-"
FORMER: Final = "former-"
"""Before the name of a folder that is moved aside while the new one takes its place."""
MAX_NAME_BYTES: Final = 250
"""File systems allow 255."""
LONGEST_WRITING_S: Final = 24 * 3600
_WRITER = re.compile(r"(\d+)@([^-]*)-")


def temporary_beside(path: Path, kind: str = "", *, writer: str = "") -> Path:
    """Return the hidden name beside `path` under which this process writes; a long name is cut short."""
    name = f"{HIDDEN}{writer or f'{os.getpid()}@{_host()}'}-{kind}{path.name}"
    return path.with_name(os.fsencode(name)[:MAX_NAME_BYTES].decode(errors="ignore"))


def leftovers(path: Path, kind: str = "") -> list[Path]:
    """Return what killed processes left beside `path` while they wrote it.

    A process lists each folder once: it may hold the files of 100,000 slides. Whoever dies after that is
    cleaned up after by the next process.
    """
    found = []
    for writer in _writers(path.parent):
        hidden = temporary_beside(path, kind, writer=writer)
        if not _is_alive(writer, hidden):
            found.append(hidden)
    return found


@lru_cache(maxsize=256)
def _writers(folder: Path) -> frozenset[str]:
    """Return the writers, `<process>@<host>`, that hidden names in a folder tell of."""
    with os.scandir(folder) as entries:
        hidden = [entry.name.removeprefix(HIDDEN) for entry in entries if entry.name.startswith(HIDDEN)]
    return frozenset(found[0].removesuffix("-") for name in hidden if (found := _WRITER.match(name)))


def _is_alive(writer: str, hidden: Path) -> bool:
    """Say whether a writer may still be at work on `hidden`, or left nothing there."""
    process, _, host = writer.partition("@")
    try:
        written = hidden.lstat().st_mtime
    except OSError:
        return True
    if host == _host():
        return Path(f"/proc/{process}").exists()
    return time.time() - written < LONGEST_WRITING_S


@lru_cache(maxsize=1)
def _host() -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", platform.node())[:32]

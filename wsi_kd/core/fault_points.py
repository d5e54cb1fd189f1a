"""Faults on purpose: a process dies, or a call fails, at a chosen point of publishing a file.

`WSI_KD_FAULT=<point>:<what>[:<n>]` in the environment chooses the point, what happens there, and when: as
the process comes there for the n-th time (default: the first). Unset, a point costs one look into it.

    WSI_KD_FAULT=rename:kill:3      dies (SIGKILL) before the third rename
    WSI_KD_FAULT=write:enospc       the first file is written by half, then the disk is full
"""

import errno
import os
import signal
from functools import cache
from itertools import count
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from wsi_kd.core.errors import BadInput

VARIABLE: Final = "WSI_KD_FAULT"
Point: TypeAlias = Literal["open", "write", "fsync", "rename", "dirsync"]
"""Before the temporary file is made; when it is written; before its fsync; before each rename; before the
fsync of the folder."""
POINTS: Final[tuple[Point, ...]] = get_args(Point)
KILL: Final = "kill"
ERRORS: Final = {"enospc": errno.ENOSPC, "eio": errno.EIO, "eacces": errno.EACCES}


class _Fault(NamedTuple):
    point: str
    what: str
    number: int
    reached: "count[int]"
    """Counts from 1 how often the point was reached by this process."""


def reach(point: Point, path: Path) -> None:
    """Say that `point` is reached for `path`; what the environment asks for happens here.

    Raises:
        OSError: the environment asks for it.
        BadInput: the environment asks for what there is not.
    """
    asked = os.environ.get(VARIABLE)
    if not asked:
        return
    fault = _parse(asked)
    if fault.point != point or next(fault.reached) != fault.number:
        return
    if point == "write" and path.is_file():
        os.truncate(path, path.stat().st_size // 2)  # a write that is cut off leaves the first part of a file
    if fault.what == KILL:
        os.kill(os.getpid(), signal.SIGKILL)
    number = ERRORS[fault.what]
    raise OSError(number, os.strerror(number), str(path))


@cache
def _parse(asked: str) -> _Fault:
    point, _, rest = asked.partition(":")
    what, _, number = rest.partition(":")
    if point not in POINTS or what not in (KILL, *ERRORS) or not (number or "1").isdecimal():
        raise BadInput(
            f"{VARIABLE}={asked}: expected <point>:<what>[:<n>], points {', '.join(POINTS)}; "
            f"what: {', '.join((KILL, *ERRORS))}"
        )
    return _Fault(point, what, int(number or "1"), count(1))

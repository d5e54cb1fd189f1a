"""Which slide a library is reading at this moment, noted where a process that watches this one can see it.

OpenSlide, tifffile and the decoders below them can crash, hang or ask for endless memory over a damaged file,
and a process that dies cannot say of which slide. What stands in this memory, shared with its guard, still
does. Without a guard nothing is noted.
"""

import mmap
import os
import struct
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus

LINES: Final = 256
"""Calls that can be noted at once: one a thread, two where one calls another."""
PATH_BYTES: Final = 4096
"""PATH_MAX of Linux."""
_TIME: Final = struct.Struct("=d")
"""Seconds at which the call began; negative, at which it ended; 0.0 on a line that was never written."""
_LENGTH: Final = struct.Struct("=I")
_PATH_AT: Final = _TIME.size + _LENGTH.size
_LINE_BYTES: Final = _PATH_AT + PATH_BYTES
_NO_LINE: Final = -1


class Call(NamedTuple):
    """One call into a reading library."""

    path: Path
    time_s: float
    """On the monotonic clock, which all processes share: when it began, negative when it ended."""

    @property
    def is_under_way(self) -> bool:
        """Whether the library has not come back yet."""
        return self.time_s > 0


class Ledger:
    """The calls of one process, in memory that its guard shares."""

    def __init__(self) -> None:
        self._memory: mmap.mmap | None = None
        self._writes = False
        self._free: deque[int] = deque()
        self._named: list[Path | None] = []
        self._refused: dict[Path, str] = {}
        os.register_at_fork(after_in_child=self._leave)

    def share(self) -> None:
        """Begin an empty ledger; a process forked from now on can join it."""
        self._memory = mmap.mmap(-1, LINES * _LINE_BYTES)

    def join(self) -> None:
        """Note the calls of this process from now on; the children that it forks note none."""
        self._free, self._named = deque(range(LINES)), [None] * LINES
        self._writes = self._memory is not None

    def reading(self, path: Path) -> "_Reading":
        """Note that a library reads `path`, for as long as the context lasts. Costs a microsecond."""
        return _Reading(self, path)

    def calls(self) -> list[Call]:
        """Return the last call on every line: those under way, the oldest first, then the latest ended."""
        memory = self._memory or b""
        found = []
        for start in range(0, len(memory), _LINE_BYTES):
            (length,), (time_s,) = (
                _LENGTH.unpack_from(memory, start + _TIME.size),
                _TIME.unpack_from(memory, start),
            )
            name = memory[start + _PATH_AT : start + _PATH_AT + length]
            if time_s:
                found.append(Call(Path(os.fsdecode(name)), time_s))
        return sorted(found, key=lambda call: (not call.is_under_way, call.time_s))

    def refuse(self, path: Path, reason: str) -> None:
        """Have `check` refuse a slide, here and in processes forked from now on."""
        self._refused[path] = reason

    @property
    def has_refused(self) -> bool:
        """Whether the command runs again, without a slide that it died of."""
        return bool(self._refused)

    def check(self, path: Path) -> None:
        """Refuse a slide that has killed a process that read it.

        Raises:
            SlideProblem: reader_crashed.
        """
        if path in self._refused:
            raise SlideProblem(SlideStatus.READER_CRASHED, self._refused[path])

    def _begin(self, path: Path) -> int:
        """Note a call and return its line; where nobody is told, or no line is free, `_NO_LINE`."""
        if not self._writes or self._memory is None:
            return _NO_LINE
        try:
            line = self._free.pop()
        except IndexError:
            return _NO_LINE
        start = line * _LINE_BYTES
        if self._named[line] is not path:
            name = os.fsencode(path)[:PATH_BYTES]
            self._memory[start + _PATH_AT : start + _PATH_AT + len(name)] = name
            _LENGTH.pack_into(self._memory, start + _TIME.size, len(name))
            self._named[line] = path
        _TIME.pack_into(self._memory, start, time.monotonic())
        return line

    def _end(self, line: int) -> None:
        if self._writes and self._memory is not None:
            _TIME.pack_into(self._memory, line * _LINE_BYTES, -time.monotonic())
        self._free.append(line)

    def _leave(self) -> None:
        """Keep a forked child off the lines of its parent."""
        self._writes = False


class _Reading:
    """The context of one call: a class, as it stands around every tile."""

    __slots__ = ("_ledger", "_line", "_path")

    def __init__(self, ledger: Ledger, path: Path) -> None:
        self._ledger, self._path, self._line = ledger, path, _NO_LINE

    def __enter__(self) -> None:
        self._line = self._ledger._begin(self._path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._line != _NO_LINE:
            self._ledger._end(self._line)


LEDGER: Final = Ledger()
"""That of this process."""

"""A limit that tells an input which swells from one that is refused: far above what a slow machine needs."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SECONDS = 30


class StillRuns(Exception):
    """The code under test used more processor time than any refusal takes."""


@contextmanager
def ends_soon(seconds: float = SECONDS) -> Iterator[None]:
    """Raise where the block uses more than `seconds` of this process's cores.

    Raises:
        StillRuns: at that moment, from within the block.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        message = f"still runs after {seconds} s of a core"
        raise StillRuns(message)

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)

"""The errors a user may see: each is one line that says what, where, what was expected and the remedy."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

from wsi_kd.core.records import SlideStatus


class WsiKdError(Exception):
    """Root of every error that reaches a user as one line and an exit code instead of a traceback."""

    exit_code = 1
    slide_id: str = ""
    """The slide that it is about, where that is one and known."""


class BadInput(WsiKdError):
    """The user's files, settings or arguments cannot be used as they are (exit code 2)."""

    exit_code = 2


class RunFailed(WsiKdError):
    """The input was fine but the run could not finish: a full disk, too many failed slides (exit code 1)."""


class PeerLost(RunFailed):
    """Another process of the same training ended; that one says why."""


class SlidesFailed(WsiKdError):
    """Of the slides that were to be scored some failed; the others are finished (exit code 3)."""

    exit_code = 3

    def __init__(self, message: str, *, slide_id: str = "") -> None:
        super().__init__(message)
        self.slide_id = slide_id


class Busy(WsiKdError):
    """Another process works there; run the same command when it has ended (exit code 75, EX_TEMPFAIL)."""

    exit_code = 75


class SlideProblem(WsiKdError):
    """One slide cannot be used; the cohort goes on and the slide ends with this status and reason."""

    def __init__(self, status: SlideStatus, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason


@contextmanager
def named(who: str) -> Iterator[None]:
    """Begin the errors of a part of the work with its name."""
    try:
        yield
    except (BadInput, RunFailed) as error:
        raise type(error)(f"{who}: {error}") from None


def unknown_name(kind: str, name: str, known: Iterable[str]) -> BadInput:
    """Build the one error for a name that no registry holds, with the nearest known name.

    >>> str(unknown_name("encoder", "uni3", ["stain_texture", "uni"]))
    "unknown encoder 'uni3'; known: stain_texture, uni (did you mean 'uni'?)"
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    return BadInput(f"unknown {kind} '{name}'; known: {', '.join(names)}{hint}")

"""The process that outlives a command which reads slides, and finds out of which slide the command died.

A library that crashes takes its process along, and with it what a job of sixteen slides had still to do. So
the commands that read slides run in a child of this process, which loads nothing but waits. If the child is
killed, hangs in a call or swells in one, the slides that it was reading are tried one by one in processes of
their own; one that kills these too is refused from then on (status `reader_crashed`) and the command runs
again: it keeps what is finished and goes on behind that slide. A crash that no slide explains ends the
command by the same signal, as if nobody had watched.
"""

import ctypes
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple, NoReturn

from wsi_kd.core.messages import Words, fail, listening, warn
from wsi_kd.slides.ledger import LEDGER, Call

GUARDED: Final = frozenset(
    {
        *("mask", "stain", "embed", "qc", "infer", "info", "report", "heatmap", "annotations", "adopt"),
        *("doctor", "check-precision"),
    }
)
"""Commands that read slides; all others run as they are, but for `view --static`."""
CRASHES: Final = frozenset(
    {"SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS", "SIGKILL"}
)
"""Signals by which code kills its own process, and that by which the kernel frees memory."""
MAX_SUSPECTS: Final = 4
ECHO_S: Final = 1.0
"""An interrupt so soon after another is the same one, sent to the whole process group and passed on."""
PR_SET_PDEATHSIG: Final = 1
SURVIVED, EXHAUSTED = 0, 3
"""Exit codes of a trial: the slide is harmless; it asked for more memory than it may."""
REMEDY: Final = "export it with another program; it is tried again whenever its step runs again"


class Limits(NamedTuple):
    """When reading is no longer reading."""

    hang_s: float = 300.0
    """Seconds that one call may take: it reads four megapixels at most, or opens a file."""
    budget_bytes: int = 4 << 30
    """Memory that one call may ask for."""
    trial_s: float = 900.0
    """Seconds after which a slide that is tried alone counts as harmless."""
    look_s: float = 1.0
    """Seconds between two looks at the child."""


class Ended(NamedTuple):
    """How a child ended."""

    code: int
    """Its exit code; the negative number of a signal that killed it."""
    fault: str = ""
    """What the guard killed it for, if it did."""
    slide: Path | None = None
    """The slide that was being read for too long."""

    @property
    def crash(self) -> str:
        """Name of the signal by which it crashed; empty where it ended in any other way."""
        name = signal.Signals(-self.code).name if self.code < 0 else ""
        return name if name in CRASHES else ""


LIMITS: Final = Limits()


def is_guarded(words: Words, arguments: Sequence[str]) -> bool:
    """Tell whether a command reads slides in its own process; the viewer that serves has others read them."""
    command = words.command.split(" ")[0]
    is_export = command == "view" and any(part.partition("=")[0] == "--static" for part in arguments)
    return command in GUARDED or is_export


def stand_guard(words: Words, *, limits: Limits = LIMITS) -> None:
    """Return in a child that may die; this process itself never returns, it ends as its last child does.

    To be called before anything heavy is loaded and before any thread runs. Costs a few milliseconds.

    Args:
        words: how the command speaks; so the guard does too.
        limits: when a call counts as hung or as boundless.
    """
    if not hasattr(os, "pidfd_open"):  # no Linux: the command runs without a guard
        return
    while True:
        child = _fork()
        if not child:
            return
        ended = _watch(child, limits)
        if not ended.crash:
            _end_like(ended.code)
        guilty = _guilty(ended, limits)
        with listening(words):
            for path, reason in guilty.items():
                LEDGER.refuse(path, reason)
                warn(f"{ended.crash} while a slide was read; the command runs again without that slide")
            if not guilty:
                fail(_unexplained(ended.crash))
        if not guilty:
            _end_like(ended.code)


def _fork() -> int:
    """Fork a child that dies with this process and notes in a new ledger what it reads; 0 is the child."""
    guard = os.getpid()
    LEDGER.share()
    sys.stdout.flush()
    sys.stderr.flush()
    hears_interrupts = callable(signal.getsignal(signal.SIGINT))  # not in the background of a shell
    passed_on = [signal.SIGTERM, signal.SIGINT] if hears_interrupts else [signal.SIGTERM]
    signal.pthread_sigmask(signal.SIG_BLOCK, passed_on)  # none may come before its handler stands
    child = os.fork()
    for number in passed_on:
        if child:
            signal.signal(number, lambda number, _: _pass_on(child, number))
        else:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else Interrupts())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, passed_on)
    if child:
        return child
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:  # it died first
        os._exit(1)
    LEDGER.join()
    return 0


class Interrupts:
    """Raises KeyboardInterrupt, once where one arrives twice: by the terminal, and passed on by the guard."""

    def __init__(self) -> None:
        self._last_s = -ECHO_S

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        now = time.monotonic()
        is_echo, self._last_s = now - self._last_s < ECHO_S, now
        if not is_echo:
            raise KeyboardInterrupt


def _pass_on(child: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, number)


def _watch(child: int, limits: Limits, *, total_s: float = float("inf")) -> Ended:
    """Wait for the child's end; kill it where a call hangs or swells, or after `total_s`."""
    descriptor = os.pidfd_open(child)
    seen: dict[Call, tuple[int, int]] = {}
    fault, slide, looks = "", None, 0
    try:
        while not select.select([descriptor], [], [], limits.look_s)[0]:
            looks += 1
            held = _resident_bytes(child)
            calls = [call for call in LEDGER.calls() if call.is_under_way]
            seen = {call: (seen.get(call, (0, held))[0] + 1, seen.get(call, (0, held))[1]) for call in calls}
            # Looks are counted, not seconds: while all is suspended nobody looks.
            hung = [call for call, (times, _) in seen.items() if times * limits.look_s > limits.hang_s]
            swollen = any(held - before > limits.budget_bytes for _, before in seen.values())
            late = looks * limits.look_s > total_s
            if hung or swollen or late:
                fault = "hung" if hung else "swollen" if swollen else "late"
                slide = hung[0].path if hung else None
                os.kill(child, signal.SIGKILL)
    finally:
        os.close(descriptor)
    _, status = os.waitpid(child, 0)
    return Ended(os.waitstatus_to_exitcode(status), fault, slide)


def _resident_bytes(process: int) -> int:
    try:
        pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):  # it ends at this moment
        return 0
    return int(pages) * resource.getpagesize()


def _guilty(ended: Ended, limits: Limits) -> dict[Path, str]:
    """Return the slides that kill a process that reads them, and how."""
    if ended.slide is not None:
        return {ended.slide: _hung(limits)}
    calls = LEDGER.calls()
    if ended.crash == "SIGKILL":  # from outside: only what was being read can have filled the memory
        calls = [call for call in calls if call.is_under_way]
    suspects = list(dict.fromkeys(call.path for call in calls))[:MAX_SUSPECTS]
    return {path: verdict for path in suspects if (verdict := _verdict(path, limits))}


def _verdict(path: Path, limits: Limits) -> str:
    """Read a slide in a process of its own; say how that died, nothing where it lives."""
    child = _fork()
    if not child:
        _try_alone(path, limits)
    ended = _watch(child, limits, total_s=limits.trial_s)
    if ended.slide is not None:
        return _hung(limits)
    if ended.fault == "late":
        return ""
    if ended.code == EXHAUSTED or ended.fault:
        return f"reading it asks for more than {limits.budget_bytes / 2**30:.3g} GiB of memory; {REMEDY}"
    if ended.crash == "SIGKILL":
        return f"reading it ends in a SIGKILL, as the kernel sends for want of memory; {REMEDY}"
    if ended.crash:
        return f"reading it crashes the library that does it ({ended.crash}); {REMEDY}"
    if ended.code < 0:  # told to stop
        _end_like(ended.code)
    return ""


def _hung(limits: Limits) -> str:
    return f"reading it hangs: a call has not come back for {limits.hang_s:g} s; {REMEDY}"


def _try_alone(path: Path, limits: Limits) -> NoReturn:
    """Read a slide and end; what the libraries print stays unread."""
    code = SURVIVED
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        from wsi_kd.slides.trial import read_whole

        read_whole(path, budget_bytes=limits.budget_bytes)
    except MemoryError:
        code = EXHAUSTED
    finally:
        os._exit(code)


def _unexplained(crash: str) -> str:
    if crash == "SIGKILL":
        return (
            "killed from outside (SIGKILL): by hand, by a scheduler, or by the kernel for want of memory; "
            "finished files are whole, run the same command again to go on"
        )
    return (
        f"crashed ({crash}), and no slide that was being read crashes a process of its own; finished files "
        "are whole, run the same command again to go on"
    )


def _end_like(code: int) -> NoReturn:
    """End as the child did, by the same signal where one killed it."""
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # one core is enough
        with suppress(OSError):  # SIGKILL needs no handler and takes none
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)

"""The processes that read slides for a viewer: one a slide, forked by a nursery, which reads none.

The nursery is a Python of its own that has imported all that reads slides and used nothing of it: no thread
and no lock stands in it, so a fork is safe and takes milliseconds. It obeys over one socket: fork a reading
process that gets these pipes, or wait for one's end. A reading process has a thread a pipe; each answers one
request at a time. It ends when the viewer does, whose pipes then close.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any, Final, NoReturn

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.slides.trial import bound_memory
from wsi_kd.viewer.opened import OpenSlide, SlideFacts

PIPES: Final = 8
"""Requests that one slide answers at once."""
BUDGET_BYTES: Final = 4 << 30
"""Memory that reading a slide may ask for, by all threads together."""
FORK, WAIT = b"+", b"-"
NUMBER_BYTES: Final = 8
MESSAGE_BYTES: Final = 1 + NUMBER_BYTES
PR_SET_PDEATHSIG: Final = 1


def as_bytes(number: int) -> bytes:
    """Write a process or an exit code as it travels."""
    return number.to_bytes(NUMBER_BYTES, "little", signed=True)


def as_number(content: bytes) -> int:
    """Read what `as_bytes` wrote."""
    return int.from_bytes(content, "little", signed=True)


def answer_of(content: bytes = b"", **members: Any) -> bytes:
    r"""Put an answer together: its members as one line of JSON, then its content.

    >>> answer_of(b"jpeg", damage="")
    b'{"damage": ""}\njpeg'
    """
    return json.dumps(members).encode("ascii") + b"\n" + content


def serve_nursery(descriptor: int) -> NoReturn:
    """Fork reading processes, and wait for them, until the viewer is gone."""
    control = socket.socket(fileno=descriptor)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES, PIPES)
        if not message:
            os._exit(0)
        if message[:1] == FORK:
            number = _fork(control, descriptors)
        else:
            _, status = os.waitpid(as_number(message[1:]), 0)
            number = os.waitstatus_to_exitcode(status)
        control.sendall(as_bytes(number))


def _fork(control: socket.socket, descriptors: list[int]) -> int:
    """Return the process; 0 where none could be made."""
    try:
        child = os.fork()
    except OSError:
        child = 0
    else:
        if child == 0:
            _read(control, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    return child


def _read(control: socket.socket, descriptors: list[int]) -> NoReturn:
    """Be a reading process to its end."""
    nursery = os.getppid()
    try:
        control.close()
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != nursery:  # it died first
                os._exit(1)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        bound_memory(BUDGET_BYTES)
        _serve([Connection(descriptor) for descriptor in descriptors])
    finally:
        os._exit(0)


def _serve(pipes: list[Connection]) -> None:
    """Open the slide that the first request names, tell its facts, then answer on every pipe."""
    request = json.loads(pipes[0].recv_bytes())
    try:
        slide = OpenSlide(Path(request["path"]), background=request["background"], color=request["color"])
    except Exception as error:  # a damaged slide may make its reader raise anything
        pipes[0].send_bytes(_refusal(error, "opening"))
        return
    pipes[0].send_bytes(answer_of(facts=_written(slide.facts)))
    threads = [Thread(target=_answer_all, args=(slide, pipe)) for pipe in pipes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _answer_all(slide: OpenSlide, pipe: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):  # the viewer has closed the slide, or is gone
        while True:
            request = json.loads(pipe.recv_bytes())
            try:
                answer = _answer(slide, request)
            except Exception as error:  # as above
                answer = _refusal(error, "reading")
            pipe.send_bytes(answer)


def _answer(slide: OpenSlide, request: Mapping[str, Any]) -> bytes:
    match request:
        case {"level": level, "column": column, "row": row}:
            tile = slide.tile(level=level, column=column, row=row)
            return answer_of(tile.jpeg, damage=tile.damage)
        case {"associated": name}:
            return answer_of(slide.associated(name))
        case _:
            return answer_of(names=list(slide.associated_names()))


def _refusal(error: Exception, what: str) -> bytes:
    if isinstance(error, SlideProblem):
        return answer_of(status=error.status, reason=error.reason)
    asks = f"asks for more than {BUDGET_BYTES >> 30} GiB of memory"
    why = asks if isinstance(error, MemoryError) else f"failed ({type(error).__name__})"
    return answer_of(status=SlideStatus.UNREADABLE, reason=f"{what} {why}; copy or export it again")


def _written(facts: SlideFacts) -> dict[str, Any]:
    return {**facts._asdict(), "frame": facts.frame._asdict(), "zoom": facts.zoom._asdict()}

"""The viewer's end of the processes that read its slides: what kills a reader ends one of these alone."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from types import TracebackType
from typing import Any, Final

from wsi_kd.core.errors import RunFailed, SlideProblem
from wsi_kd.core.file_identity import FileIdentity
from wsi_kd.core.records import SlideStatus
from wsi_kd.slides.frame import SlideFrame
from wsi_kd.slides.icc import Color
from wsi_kd.slides.identity import identity_of
from wsi_kd.slides.protocol import Background, unreadable
from wsi_kd.viewer.deepzoom import DeepZoom
from wsi_kd.viewer.opened import SlideFacts, Tile
from wsi_kd.viewer.reading_process import FORK, NUMBER_BYTES, PIPES, WAIT, as_bytes, as_number

PROGRAM: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from wsi_kd.viewer.reading_process import serve_nursery; serve_nursery(int(sys.argv[2]))"
)
"""Of the nursery's Python, with this one's path of modules."""
ONE_THREAD: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Else NumPy would start threads before a fork; reading uses none of them."""
HANG_S: Final = 60.0
"""Seconds that an answer may take: a tile is made from sixteen megapixels at most."""
REMEDY: Final = "export it with another program; it is tried again when the file changes or the viewer starts"


class Nursery:
    """Starts reading processes; one for a viewer. A context."""

    def __init__(self, program: str = PROGRAM, *, hang_s: float = HANG_S) -> None:
        """Start its Python, which is ready after a second and does not keep this one waiting.

        Args:
            program: what that Python runs.
            hang_s: seconds after which an answer is no longer waited for.
        """
        self.hang_s = hang_s
        self._lock = Lock()
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program, json.dumps(sys.path), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **ONE_THREAD},
                start_new_session=True,  # Ctrl-C is the viewer's to hear
            )

    def __enter__(self) -> "Nursery":
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the nursery."""
        self.close()

    def close(self) -> None:
        """End the nursery; reading processes end with it."""
        with self._lock:
            self._control.close()
        self._process.kill()  # it writes nothing, and may still be importing
        self._process.wait()

    def fork(self, pipes: list[Connection]) -> int:
        """Start a process that reads from these pipes; return its number, 0 where the system has none left.

        Raises:
            RunFailed: the nursery is gone.
        """
        descriptors = [pipe.fileno() for pipe in pipes]
        return self._told(FORK, 0, descriptors)

    def end(self, process: int) -> int:
        """Wait for a reading process that is dead or dying; return its exit code, negative of a signal.

        Raises:
            RunFailed: the nursery is gone.
        """
        return self._told(WAIT, process, [])

    def _told(self, order: bytes, number: int, descriptors: list[int]) -> int:
        with self._lock, suppress(OSError):
            socket.send_fds(self._control, [order + as_bytes(number)], descriptors)
            answer = self._control.recv(NUMBER_BYTES, socket.MSG_WAITALL)
            if len(answer) == NUMBER_BYTES:
                return as_number(answer)
        raise RunFailed(
            "the process that starts those which read slides has ended; start the viewer again "
            "(wsi-kd doctor says whether something is missing)"
        )


class RemoteSlide:
    """A slide that a process of its own reads; an `Opened`."""

    def __init__(self, path: Path, nursery: Nursery, *, background: Background, color: Color) -> None:
        """Start the process and have it open the slide.

        Raises:
            SlideProblem: unreadable, as `open_slide` says it; reader_crashed.
        """
        self.identity: FileIdentity = identity_of(path)
        self._nursery = nursery
        self._lock = Lock()
        self._end = ""
        self._process = 0
        pairs = [_pipe(nursery.hang_s) for _ in range(PIPES)]
        self._pipes = [ours for ours, _ in pairs]
        self._idle: SimpleQueue[Connection] = SimpleQueue()
        try:
            self._process = nursery.fork([theirs for _, theirs in pairs])
            for _, theirs in pairs:
                theirs.close()
            asked = {"path": str(path), "background": background, "color": color}
            self.facts: SlideFacts = self._opened(asked)
        except BaseException:
            for _, theirs in pairs:
                theirs.close()
            self.close()
            raise
        for pipe in self._pipes[1:]:
            self._idle.put(pipe)

    def tile(self, *, level: int, column: int, row: int) -> Tile:
        """Read one DeepZoom tile, which there must be; a damaged one is gray.

        Raises:
            SlideProblem: reader_crashed.
        """
        told, jpeg = self._ask({"level": level, "column": column, "row": row})
        return Tile(jpeg, told["damage"])

    def associated_names(self) -> tuple[str, ...]:
        """Name the images of the glass.

        Raises:
            SlideProblem: reader_crashed.
        """
        told, _ = self._ask({})
        return tuple(told["names"])

    def associated(self, name: str) -> bytes:
        """Read one of them as JPEG.

        Raises:
            SlideProblem: it cannot be read; reader_crashed.
        """
        return self._ask({"associated": name})[1]

    def close(self) -> None:
        """End the process: it writes nothing, so there is nothing to wait for."""
        with self._lock:
            if self._process and not self._end:
                self._end = "closed"
                os.kill(self._process, signal.SIGKILL)
                with suppress(RunFailed):
                    self._nursery.end(self._process)
        for pipe in self._pipes:
            pipe.close()

    def _opened(self, request: Mapping[str, Any]) -> SlideFacts:
        """Have the slide opened, over the one pipe that is listened to until then."""
        if not self._process:
            raise unreadable("no process can be started to read it; end other programs and try again")
        self._idle.put(self._pipes[0])
        told, _ = self._ask(request)
        return _facts(told["facts"])

    def _ask(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Have a question answered; of a refusal raise what the process says."""
        pipe = self._idle.get()
        try:
            pipe.send_bytes(json.dumps(request).encode("ascii"))
            head, _, content = pipe.recv_bytes().partition(b"\n")
        except (EOFError, OSError) as error:
            raise self._crashed(hung=isinstance(error, BlockingIOError)) from None
        finally:
            self._idle.put(pipe)
        told: dict[str, Any] = json.loads(head)
        if "status" in told:
            raise SlideProblem(SlideStatus(told["status"]), told["reason"])
        return told, content

    def _crashed(self, *, hung: bool) -> SlideProblem:
        """Say how the process ended; one that hangs is ended first."""
        with self._lock:
            if not self._end:
                if hung:
                    os.kill(self._process, signal.SIGKILL)
                code = self._nursery.end(self._process)
                how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                self._end = (
                    f"reading it hangs: no answer for {self._nursery.hang_s:g} s; {REMEDY}"
                    if hung
                    else f"reading it ends the process that does it ({how}); {REMEDY}"
                )
        return SlideProblem(SlideStatus.READER_CRASHED, self._end)


def _pipe(hang_s: float) -> tuple[Connection, Connection]:
    """Return both ends; reading from ours raises BlockingIOError after `hang_s`."""
    ours, theirs = socket.socketpair()
    whole = int(hang_s)
    limit = struct.pack("ll", whole, int(1e6 * (hang_s - whole)))
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    return Connection(ours.detach()), Connection(theirs.detach())


def _facts(told: Mapping[str, Any]) -> SlideFacts:
    frame, zoom = told["frame"], told["zoom"]
    origin_x, origin_y = frame.pop("origin")
    center = frame.pop("center_nm")
    sizes = tuple((width, height) for width, height in zoom["zoom_sizes"])
    return SlideFacts(
        SlideFrame(origin=(origin_x, origin_y), center_nm=center and tuple(center), **frame),
        told["width_level0_px"],
        told["height_level0_px"],
        DeepZoom(sizes, zoom["min_level"]),
    )

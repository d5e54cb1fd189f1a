"""What commands say: plain lines as they are, or JSON lines on stderr, or only what went wrong.

Everything goes through the logger `wsi_kd`: pure code warns with `logging` and steps with the functions
below; `listening` decides, for one command, who reads it. Programs that call steps from Python hear what
their own logging asks for.
"""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from wsi_kd.core.progress_bar import bars_drawn
from wsi_kd.core.records import SlideStatus, StatusRow

LOG: Final = logging.getLogger("wsi_kd")
EXTRAS: Final = ("slide_id", "done", "total", "unit")
"""Members of a JSON line that only some messages have."""


class Words(NamedTuple):
    """How one command speaks."""

    command: str = ""
    quiet: bool = False
    """Warnings and errors alone, and what the command was asked to print."""
    json_lines: bool = False
    """One JSON object a line, all of them on stderr."""


def say(message: str, *, slide_id: str = "") -> None:
    """Tell what was done: on stdout, or a JSON line of level info; nothing where the command is quiet."""
    LOG.info("%s", message, extra=_told(slide_id))


def warn(message: str, *, slide_id: str = "") -> None:
    """Tell of what a user should look at though the work goes on, on stderr."""
    LOG.warning("%s", message, extra=_told(slide_id))


def fail(message: str, *, slide_id: str = "") -> None:
    """Tell why the command ends, on stderr."""
    LOG.error("%s", message, extra=_told(slide_id))


def detail(message: str, *, slide_id: str = "", **counts: int | str | None) -> None:
    """Tell of a single slide or epoch: a JSON line of level info, nothing in plain words."""
    LOG.info("%s", message, extra={**_told(slide_id), **counts, "is_detail": True})


def tell_slide(row: StatusRow, *, step: str, **counts: int | str | None) -> None:
    """Tell how a slide ended: a warning in the step where it failed, else a detail."""
    ended = f"{row.slide_id}: {row.status}{f': {row.reason}' if row.reason else ''}"
    if row.status != SlideStatus.OK and row.step == step:
        LOG.warning("%s", f"{step}: {ended}", extra={**_told(row.slide_id), **counts})
    else:
        detail(f"{step}: {ended}", slide_id=row.slide_id, **counts)


@contextmanager
def listening(words: Words) -> Iterator[None]:
    """Let one command speak so; what it says through `logging` ends where these words end."""
    handler: logging.Handler = _JsonLines(words.command) if words.json_lines else _PlainLines()
    handler.setLevel(logging.WARNING if words.quiet else logging.INFO)
    level = LOG.level
    LOG.setLevel(logging.INFO)
    heard = logging.getLogger() if words.json_lines else LOG  # JSON lines hold what other packages say too
    heard.addHandler(handler)
    if words.json_lines:
        logging.captureWarnings(capture=True)
    try:
        with bars_drawn(wanted=not words.quiet and not words.json_lines):
            yield
    finally:
        heard.removeHandler(handler)
        LOG.setLevel(level)
        if words.json_lines:
            logging.captureWarnings(capture=False)


class _PlainLines(logging.Handler):
    """What was done on stdout, the rest on stderr; an error says whose it is."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "is_detail", False):
            return
        message = record.getMessage()
        if record.levelno >= logging.ERROR:
            message = f"wsi-kd: error: {message}"
        # Looked up for every line: tests and progress bars put other streams in their place.
        stream = sys.stdout if record.levelno < logging.WARNING else sys.stderr
        encoding = getattr(stream, "encoding", None) or "utf-8"
        # A terminal of another encoding, or a name that is no text, must not end a run of hours.
        print(message.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


class _JsonLines(logging.Handler):
    """One JSON object a line: time (UTC), level, command, what `EXTRAS` names, message."""

    def __init__(self, command: str) -> None:
        super().__init__()
        self.command = command

    def emit(self, record: logging.LogRecord) -> None:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": time, "level": record.levelname.lower(), "command": self.command}
        line.update({name: value for name in EXTRAS if (value := getattr(record, name, None)) is not None})
        line["message"] = " ".join(record.getMessage().split())
        print(json.dumps(line), file=sys.stderr, flush=True)


def _told(slide_id: str) -> dict[str, str]:
    return {"slide_id": slide_id} if slide_id else {}

"""Commands in children that may die, forked from a process that has imported everything and used nothing.

A test session has threads and caches of its own, whose locks a forked child could find held; starting Python
anew for every case would cost a second each.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

LIMIT_S = 60
"""A command takes a fraction of a second: one that takes so long would never end."""
BUDGET_BYTES = 2**30


class Done(NamedTuple):
    """How a command ended."""

    code: int
    """Its exit code; the negative number of a signal that killed it."""
    out: str
    err: str
    seconds: float
    peak_bytes: int
    """Address space at most, above what the child began with; 0 where it was killed."""


class CleanForks:
    """The process that forks; a context."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "WSI_KD_TESTS": str(Path(__file__).parent)}
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __enter__(self) -> "CleanForks":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(timeout=120)
        self._server.stdout.close()

    def command(self, *arguments: str | Path, limit_s: int = LIMIT_S) -> Done:
        """Run one command of wsi-kd in a child with `BUDGET_BYTES` more memory, for `limit_s` at most."""
        return self.call("command", [str(argument) for argument in arguments], limit_s=limit_s)

    def call(self, name: str, given: list[str], *, limit_s: int = LIMIT_S) -> Done:
        """Call a function of `WORK` in a child, as `command` does."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        streams = [str(self._folder / f"child.{name}") for name in ("out", "err", "peak")]
        task = {"name": name, "given": given, "limit_s": limit_s, "streams": streams}
        self._server.stdin.write(json.dumps(task) + "\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        out, err, peak = (Path(stream).read_text(encoding="utf-8", errors="replace") for stream in streams)
        return Done(answer["code"], out, err, answer["seconds"], int(peak or 0))


def run_command(given: list[str]) -> int:
    """Run one command of wsi-kd."""
    from wsi_kd.cli.app import run

    return run(given)


def run_guarded(given: list[str]) -> int:
    """Run one command as `main` does, a crash costing the slide alone; a call hangs after `LIMIT_S`."""
    from wsi_kd.cli.app import run
    from wsi_kd.cli.crash_guard import Limits, stand_guard
    from wsi_kd.core.messages import Words

    stand_guard(Words(given[0]), limits=Limits(hang_s=LIMIT_S, budget_bytes=BUDGET_BYTES // 2))
    return run(given)


def tell_unlike(given: list[str]) -> int:
    """Print a line a slide that ended ok although its tiles, read anew, fail or are others."""
    from slide_mutants import unlike_tiles

    for told in unlike_tiles(Path(given[0])):
        print(told)
    return 0


def _abort(_: list[str]) -> int:
    os.abort()


def _sleep(_: list[str]) -> int:
    time.sleep(600)
    return 0


def _swell(_: list[str]) -> int:
    return len(bytearray(2 * BUDGET_BYTES))


WORK = {
    "command": run_command,
    "guarded": run_guarded,
    "unlike": tell_unlike,
    "abort": _abort,
    "sleep": _sleep,
    "swell": _swell,
}


def _serve() -> None:
    sys.path.insert(0, os.environ["WSI_KD_TESTS"])
    from wsi_kd.cli import app  # noqa: F401 - imported for the children
    from wsi_kd.steps import embed, info  # noqa: F401

    for line in sys.stdin:
        task = json.loads(line)
        started = time.perf_counter()
        child = os.fork()
        if child == 0:
            _work(task)
        _, status = os.waitpid(child, 0)
        answer = {"code": os.waitstatus_to_exitcode(status), "seconds": time.perf_counter() - started}
        print(json.dumps(answer), flush=True)


def _work(task: dict[str, Any]) -> None:
    code, floor = 255, _address_space("VmSize")
    out, err, peak = (os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for stream in task["streams"])
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (floor + BUDGET_BYTES,) * 2)
        signal.alarm(task["limit_s"])
        code = WORK[task["name"]](task["given"])
    except SystemExit as end:  # that of a guard
        code = int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(peak, str(_address_space("VmPeak") - floor).encode())
        os._exit(code)


def _address_space(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


if __name__ == "__main__":
    _serve()

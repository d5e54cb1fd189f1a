"""Commands in forked children of one clean interpreter: hundreds may be killed at the price of one import.

Run as a program, it imports every step once and then, for each JSON line on stdin, forks a child that runs
the command as `wsi-kd` does, and answers with a JSON line on stdout.
"""

import contextlib
import fcntl
import gc
import importlib
import io
import json
import os
import pkgutil
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

LIMIT_S = 600.0
ORPHANS_MAY_LIVE_S = 30.0
PIPE_BYTES = 1 << 20
"""What a command may say before it waits for a reader."""


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    """Its exit code; of a signal, the signal's number with a minus."""
    err: str
    seconds: float
    orphans: int
    """Processes that it had started and that went on for half a minute after its end."""


class CommandServer:
    """The interpreter and what is asked of it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        kill_after_s: float | None = None,
        max_file_bytes: int | None = None,
        written: Path | None = None,
    ) -> Ended:
        """Run `wsi-kd <arguments>` in `cwd`.

        Args:
            arguments: what follows `wsi-kd`.
            cwd: working directory.
            environment: added to that of the tests.
            kill_after_s: SIGKILL after so long.
            max_file_bytes: no file may grow longer: what a full disk looks like to a program.
            written: gets a JSON line for each file that is opened for writing or renamed.
        """
        asked = {
            "arguments": list(arguments),
            "cwd": str(cwd),
            "environment": dict(environment or {}),
            "kill_after_s": kill_after_s,
            "max_file_bytes": max_file_bytes,
            "written": None if written is None else str(written),
        }
        sending, receiving = _pipes(self._process)
        sending.write(json.dumps(asked) + "\n")
        sending.flush()
        answer = json.loads(receiving.readline())
        return Ended(**answer)


@contextmanager
def command_server() -> Iterator[CommandServer]:
    """Start the interpreter, and end it.

    It finds no git checkout: a report names the state of the one it was made with, and who edits a file
    during the tests changes that.
    """
    path = os.pathsep.join(map(str, sys.path))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "GIT_DIR": os.devnull}
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert _pipes(process)[1].readline() == "ready\n"
            yield CommandServer(process)
        finally:
            _pipes(process)[0].close()


def _pipes(process: "subprocess.Popen[str]") -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def _serve() -> None:
    import torch

    import wsi_kd.steps
    from wsi_kd.cli.app import run
    from wsi_kd.core.errors import BadInput

    for module in pkgutil.iter_modules(wsi_kd.steps.__path__, "wsi_kd.steps."):
        importlib.import_module(module.name)
    torch.set_num_threads(1)
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])  # imports 800 modules
    with contextlib.redirect_stderr(io.StringIO()):
        assert (
            run(["split", "--config", "absent.yaml"]) == BadInput.exit_code
        )  # loads what a first command loads
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page of what all of them share
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)


def _answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    started = time.perf_counter()
    reading, said = os.pipe()  # a file would meet the limit on files
    fcntl.fcntl(said, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    child = os.fork()
    if child == 0:
        _be_the_command(asked, said)
    os.close(said)
    code = _wait(child, asked["kill_after_s"] or LIMIT_S)
    seconds, orphans = time.perf_counter() - started, _orphans(child)
    os.set_blocking(reading, False)
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        err = (pipe.read() or b"").decode(errors="replace")
    return {"code": code, "err": err, "seconds": seconds, "orphans": orphans}


def _wait(child: int, seconds: float) -> int:
    """Wait for a child, and kill it when its time is over."""
    ending = os.pidfd_open(child)
    if not select.select([ending], [], [], seconds)[0]:
        os.kill(child, signal.SIGKILL)
    os.close(ending)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _orphans(session: int) -> int:
    """Count the processes of an ended command's session, when they have had time to notice."""
    until = time.perf_counter() + ORPHANS_MAY_LIVE_S
    while (alive := _processes_of(session)) and time.perf_counter() < until:
        time.sleep(0.02)
    return alive


def _processes_of(session: int) -> int:
    found = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, *numbers = stat.read_text().rpartition(")")[2].split()
            found += state != "Z" and int(numbers[2]) == session
    return found


def _be_the_command(asked: Mapping[str, Any], said: int) -> None:
    code = 1
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for source, target in ((null, 0), (null, 1), (said, 2)):
            os.dup2(source, target)
        os.setsid()
        os.chdir(asked["cwd"])
        os.environ.update(asked["environment"])
        if asked["written"] is not None:
            _watch(asked["written"])
        if asked["max_file_bytes"] is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (asked["max_file_bytes"],) * 2)
        from wsi_kd.cli.app import run

        code = run(asked["arguments"])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # ends as an interpreter does
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(code)


def _watch(written: str) -> None:
    """Note what Python opens for writing, and what it renames; other libraries' own calls are not seen."""
    notes = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def note(event: str, values: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(values[0], str | bytes) and values[2] & writing:
            told = ["open", os.fsdecode(values[0])]
        elif event in {"os.rename", "os.link", "os.symlink"}:
            told = [event, *(os.fsdecode(value) for value in values[:2])]
        elif event == "os.truncate":
            told = [event, str(values[0])]
        else:
            return
        os.write(notes, f"{json.dumps(told)}\n".encode())

    sys.addaudithook(note)


if __name__ == "__main__":
    _serve()

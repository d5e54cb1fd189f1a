"""One training in several processes of this machine: started together, ended together, one of them heard.

Each process runs the step `train` whole, and `wsi_kd.training.ranks` splits the batches. The process that was
called computes nothing: it watches, speaks for them, and ends them all as soon as one has died. torchrun can
start the processes instead, on several machines too.
"""

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Final, NamedTuple

from wsi_kd.core.errors import BadInput, PeerLost, RunFailed, WsiKdError
from wsi_kd.core.machine import usable_cpus
from wsi_kd.core.progress_bar import bars_drawn, bars_wanted

PATIENCE_S: Final = 10.0
"""How long is waited for the process whose end the others have noticed."""
TERMINATED: Final = 143
TOLD: Final = {error.__name__: error for error in (BadInput, RunFailed, PeerLost)}


class Started(NamedTuple):
    """A process of the training, and what it says: log records, and at last the error that ended it."""

    process: BaseProcess
    words: Connection


class Seat(NamedTuple):
    """What a process is told of itself."""

    rank: int
    processes: int
    meeting: str
    """See `wsi_kd.training.joining.Place`."""
    threads: int
    bars: bool
    """Whether the first one may draw its progress."""


def train_in_processes(count: int, arguments: Mapping[str, Any]) -> None:
    """Run `wsi_kd.steps.train.run_train` with these arguments in `count` processes that train one model.

    Each computes with its share of the cores that this process may use, or on a GPU of its own.

    Raises:
        BadInput: what one of them refused.
        RunFailed: one that could not go on, or died; the others have been ended.
    """
    context = multiprocessing.get_context("spawn")
    threads = max(1, usable_cpus() // count)
    with tempfile.TemporaryDirectory(prefix="wsi-kd-train-") as folder, _ended_at_last() as started:
        for rank in range(count):
            seat = Seat(rank, count, f"file://{folder}/meeting", threads, bars_wanted())
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_train_at, args=(seat, dict(arguments), theirs))
            process.start()
            theirs.close()
            started.append(Started(process, ours))
        _watch(started)


def _watch(started: Sequence[Started]) -> None:
    """Pass on what the processes say until all have ended; raise what ended the first that did not end well.

    Those that only noticed the end of another wait for what that one says.
    """
    running = dict(enumerate(started))
    noticed: PeerLost | None = None
    deadline = float("inf")
    while running and time.monotonic() < deadline:
        rest = None if noticed is None else max(0.0, deadline - time.monotonic())
        ready = wait([one.words for one in running.values()], rest)
        for rank in [rank for rank, one in running.items() if one.words in ready]:
            try:
                if _has_ended(running[rank], f"process {rank + 1} of {len(started)}"):
                    del running[rank]
            except PeerLost as lost:
                del running[rank]
                noticed, deadline = lost, min(deadline, time.monotonic() + PATIENCE_S)
    if noticed is not None:
        raise noticed


def _has_ended(one: Started, name: str) -> bool:
    """Hear one message and pass it on; tell whether it was the last.

    Raises:
        BadInput, RunFailed, PeerLost: what ended the process, where it did not end well.
    """
    try:
        said = one.words.recv()
    except (EOFError, OSError):
        one.process.join()
        if one.process.exitcode:
            raise RunFailed(_how_it_died(name, one.process.exitcode)) from None
        return True
    if isinstance(said, logging.LogRecord):
        logging.getLogger(said.name).handle(said)
        return False
    kind, message = said
    raise TOLD.get(kind, RunFailed)(message)


def _how_it_died(name: str, exitcode: int) -> str:
    how = "stopped with an error of its own (above)"
    if exitcode < 0:
        how = f"was killed by signal {-exitcode} ({signal.Signals(-exitcode).name}; often too little memory)"
    return (
        f"train: {name} {how}; the others were ended; run the same command again: it goes on after the last "
        "finished epoch"
    )


@contextmanager
def _ended_at_last() -> Iterator[list[Started]]:
    """Yield a list of processes; none of them outlives the block."""
    started: list[Started] = []
    try:
        yield started
    finally:
        for one in started:
            one.process.terminate()
        for one in started:
            one.process.join(PATIENCE_S)
            one.process.kill()  # does nothing to one that has ended
            one.process.join()
            one.words.close()


def _train_at(seat: Seat, arguments: dict[str, Any], words: Connection) -> None:
    """Be one process of the training."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted parent ends this one
    signal.signal(signal.SIGTERM, _terminate)
    _speak_through(words, level=logging.INFO if seat.rank == 0 else logging.ERROR)
    # Loaded here, so that the process that only watches does not hold it.
    import torch

    from wsi_kd.steps.train import run_train
    from wsi_kd.training.joining import Place

    torch.set_num_threads(seat.threads)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        with bars_drawn(wanted=seat.bars and seat.rank == 0):
            run_train(**arguments, place=Place(seat.rank, seat.processes, seat.meeting))
    except WsiKdError as error:
        words.send((type(error).__name__, str(error)))
        sys.exit(error.exit_code)


def _speak_through(words: Connection, *, level: int) -> None:
    """Send what is logged to the parent, which knows how it is to be said."""

    class ToParent(QueueHandler):
        def enqueue(self, record: logging.LogRecord) -> None:
            words.send(record)

    logging.getLogger("wsi_kd").setLevel(level)
    logging.getLogger("wsi_kd").addHandler(ToParent(words))  # type: ignore[arg-type]  # it stands for a queue


def _end_with_parent() -> None:
    """End when the parent has: a killed one leaves no training behind that would write beside the next."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(TERMINATED)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(TERMINATED)  # unwinds, so that unfinished temporary files are removed

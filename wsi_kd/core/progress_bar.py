"""The bar that a user watches: what, how many of how many, how many a second, how long it still takes."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

NOTE_LETTERS = 40
_DRAWN: ContextVar[bool] = ContextVar("drawn", default=True)


@contextmanager
def bars_drawn(*, wanted: bool) -> Iterator[None]:
    """Draw the bars of what runs inside, or do not."""
    token = _DRAWN.set(wanted and _DRAWN.get())
    try:
        yield
    finally:
        _DRAWN.reset(token)


def bars_wanted() -> bool:
    """Tell whether a bar would be drawn here if this is a terminal."""
    return _DRAWN.get()


@contextmanager
def bar(what: str, *, total: int | None, unit: str) -> Iterator[Callable[[int, str], None]]:
    """Draw a bar on stderr; nothing where that is no terminal, and nothing inside another bar.

    Yields:
        A function that adds to what is done and sets the note at the end of the line (a slide, a loss).
    """
    if not (_DRAWN.get() and sys.stderr.isatty()):
        yield lambda _count, _note: None
        return
    # Loaded here: batch jobs and --help do without.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    drawn = Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # what goes into a pipe or a file stays on its way
    )
    with bars_drawn(wanted=False), drawn:
        task = drawn.add_task(what, total=total, rate=unit, note="")

        def advance(count: int, note: str) -> None:
            drawn.advance(task, count)
            speed = next(one.speed for one in drawn.tasks if one.id == task)
            rate = unit if speed is None else f"{speed:.3g} {unit}/s"
            drawn.update(task, rate=rate, note=note[:NOTE_LETTERS])

        yield advance

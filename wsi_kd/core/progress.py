"""Progress of long work: steps call a plain callback; who watches, and how, is decided elsewhere.

A terminal shows a bar (`core.progress_bar`); `--json-logs` gives a line for every slide and epoch; a log file
holds neither, but a warning for every slide that failed (`core.messages`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from wsi_kd.core.messages import detail, tell_slide
from wsi_kd.core.progress_bar import bar
from wsi_kd.core.records import StatusRow


class Advance(Protocol):
    """What long work calls as it goes on."""

    def __call__(self, count: int = 1, *, note: str = "", slide_id: str = "") -> None:
        """Add `count` to what is done; a note (a loss, a result) or a slide makes it a message of its own."""


@contextmanager
def progress(what: str, *, total: int | None, unit: str) -> Iterator[Advance]:
    """Show how far `what` is.

    Args:
        what: the step, and what tells this job from others.
        total: how many units there are; None where nobody knows.
        unit: what is counted, in the plural: slides, tiles, epochs.
    """
    done = 0
    with bar(what, total=total, unit=unit) as draw:

        def advance(count: int = 1, *, note: str = "", slide_id: str = "") -> None:
            nonlocal done
            done += count
            told = ": ".join(part for part in (slide_id, note) if part)
            draw(count, told)
            if told:
                detail(f"{what}: {told}", slide_id=slide_id, done=done, total=total, unit=unit)

        yield advance


@contextmanager
def slide_progress(step: str, *, total: int) -> Iterator[Callable[[StatusRow], None]]:
    """Show how many slides of a job are done; call what is yielded with every slide's status.

    A slide that failed in this step is told as a warning, the others are details.
    """
    done = 0
    with bar(step, total=total, unit="slides") as draw:

        def finish(row: StatusRow) -> None:
            nonlocal done
            done += 1
            draw(1, row.slide_id)
            tell_slide(row, step=step, done=done, total=total, unit="slides")

        yield finish

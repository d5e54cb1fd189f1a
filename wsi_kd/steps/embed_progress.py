"""The bar of step embed: tiles read, of the tiles of all slides of a job."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def tile_progress(tiles: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr while tiles are read; nothing where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("embed"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("tiles"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("embed", total=tiles)
        yield lambda read: bar.advance(task, read)

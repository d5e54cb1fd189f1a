"""What torchrun tells the processes that it starts, read without loading torch."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from wsi_kd.core.errors import BadInput
from wsi_kd.core.messages import LOG
from wsi_kd.core.progress_bar import bars_drawn


class Launched(NamedTuple):
    """This process among those of one torchrun."""

    rank: int
    processes: int


def launched_by_torchrun() -> Launched | None:
    """Return this process's rank and how many there are; None where torchrun started one or none.

    Raises:
        BadInput: the environment variables are no such numbers.
    """
    told = {name: os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE")}
    if not told["WORLD_SIZE"] or told["WORLD_SIZE"] == "1":
        return None
    if not all(value.isdigit() for value in told.values()) or int(told["RANK"]) >= int(told["WORLD_SIZE"]):
        raise BadInput(
            f"the environment has RANK '{told['RANK']}' and WORLD_SIZE '{told['WORLD_SIZE']}'; expected what "
            "torchrun sets, or neither: unset them"
        )
    return Launched(int(told["RANK"]), int(told["WORLD_SIZE"]))


@contextmanager
def heard_if_first(launched: Launched | None) -> Iterator[None]:
    """Let only the first of several processes speak and draw bars inside; errors are everybody's."""
    if launched is None or launched.rank == 0:
        yield
        return
    level = LOG.level
    LOG.setLevel(logging.ERROR)
    try:
        with bars_drawn(wanted=False):
            yield
    finally:
        LOG.setLevel(level)

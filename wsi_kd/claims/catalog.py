"""What can be named in a configuration: methods and losses, with what each needs, its paper and its check."""

import re
import sys
from collections.abc import Mapping
from typing import Final, NamedTuple

from wsi_kd.kd.outputs import DistillationLoss
from wsi_kd.kd.registry import LOSSES, METHODS, TOOLS, Method

CHECKED_BY: Final = "wsi-kd reproduce {}"
_SOURCE = re.compile(r"^Sources?: ((?:.|\n(?!\n))+\b(?:19|20)\d\d)\b", re.MULTILINE)
"""From the word to the paragraph's last year, which closes the last reference of each loss's file."""


class Entry(NamedTuple):
    """One method or loss."""

    name: str
    title: str
    paper: str
    """Empty where a loss is older than any paper one would name."""
    needs: tuple[str, ...]
    what: str
    checked_by: str
    """The command that checks the paper's claim; empty for losses, which unit tests check."""


def methods() -> list[Entry]:
    """List the methods in the order of the registry."""
    return _entries(METHODS)


def tools() -> list[Entry]:
    """List what is called from Python only, in the order of the registry."""
    return _entries(TOOLS)


def _entries(registry: Mapping[str, Method]) -> list[Entry]:
    return [
        Entry(
            name,
            method.title,
            method.paper,
            tuple(sorted(method.needs)),
            method.what,
            CHECKED_BY.format(name),
        )
        for name, method in registry.items()
    ]


def losses() -> list[Entry]:
    """List the losses by name."""
    return [
        Entry(name, loss.__name__, _paper(name, loss), tuple(sorted(loss.needs)), _first_line(loss), "")
        for name, loss in sorted(LOSSES.items())
    ]


def loss_paper(loss: type[DistillationLoss]) -> str:
    """Return the reference that the loss's file gives after "Source:", up to the last year, in one line.

    >>> loss_paper(LOSSES["sp"])
    'Tung, Mori, "Similarity-preserving knowledge distillation", ICCV 2019'
    """
    found = _SOURCE.search(sys.modules[loss.__module__].__doc__ or "")
    return " ".join(found[1].split()) if found else ""


def _paper(name: str, loss: type[DistillationLoss]) -> str:
    """Return the method's paper where the loss is one's own and its file leaves the reference to it."""
    return loss_paper(loss) or (METHODS[name].paper if name in METHODS else "")


def _first_line(loss: type[DistillationLoss]) -> str:
    return (loss.__doc__ or "").strip().splitlines()[0].rstrip(".")

"""Random numbers for a batch that several processes share: each draws them all and keeps its own rows.

What is hidden, dropped or dealt is then what one process would have drawn for the whole batch, and the random
generators of all processes stay alike: one saved state is everybody's.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor


class WholeBatch(NamedTuple):
    """A batch of which this process has only some bags."""

    sizes: tuple[int, ...]
    """Instances of every bag of the batch."""
    chosen: tuple[int, ...]
    """Places of this process's bags among them, ascending."""

    def rows_of(self, drawn: Tensor) -> Tensor:
        """Return this process's rows of what was drawn for all instances of the batch.

        >>> WholeBatch((2, 1, 3), (0, 2)).rows_of(torch.arange(6)).tolist()
        [0, 1, 3, 4, 5]
        """
        parts = torch.split(drawn, list(self.sizes))
        return torch.cat([parts[place] for place in self.chosen])


@runtime_checkable
class DrawsForBatch(Protocol):
    """A module that draws at random, a row an instance."""

    whole: WholeBatch | None
    """The batch that its instances belong to, where several processes share it."""


def drawn_rows(draw: Callable[[int], Tensor], rows: int, *, whole: WholeBatch | None) -> Tensor:
    """Return `draw(rows)`; of a shared batch these rows of `draw(all of its instances)`.

    Args:
        draw: from a number of rows to random numbers, one row or more each.
        rows: instances at hand.
        whole: the batch that they belong to; None: they are the batch.
    """
    return draw(rows) if whole is None else whole.rows_of(draw(sum(whole.sizes)))

"""Dropout whose mask is cheap to draw on a CPU."""

import math
from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int16
from torch import Tensor, nn

from wsi_kd.core.draws import WholeBatch, drawn_rows

LEVELS: Final = 1 << 16
"""What two random bytes can say; the rate is rounded to a multiple of 1 / LEVELS."""
MASKS_A_DRAW: Final = 4
"""Values of two bytes in one of eight."""


class Dropout(nn.Module):
    """Inverted dropout: in training each value is 0 with probability `rate`, else divided by 1 - `rate`.

    torch's own draws a number a value, which on a CPU takes as long as a fifth of all matrix products of a
    training step; two random bytes a value take a tenth of that. On other devices this is torch's own. Draws
    come from torch's global generator.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.whole: WholeBatch | None = None
        """The batch that the values belong to, where several processes share it."""

    def forward(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Drop in train mode; the values themselves in eval mode."""
        if not self.training or self.rate <= 0.0:
            return values
        if values.device.type != "cpu":
            return self._dropped_elsewhere(values)
        return values * self._mask(values, dropped_levels=min(round(self.rate * LEVELS), LEVELS - 1))

    def _dropped_elsewhere(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if self.whole is None:
            return F.dropout(values, self.rate)

        def draw(rows: int) -> Tensor:
            return F.dropout(values.new_ones(rows, *values.shape[1:]), self.rate)

        return values * drawn_rows(draw, len(values), whole=self.whole)

    def _mask(self, values: Float[Tensor, "*shape"], *, dropped_levels: int) -> Float[Tensor, "*shape"]:
        levels = drawn_rows(lambda rows: _levels((rows, *values.shape[1:])), len(values), whole=self.whole)
        # in place: 0 or 1 in the draws' own type, which is many times faster than to bool and from there on
        kept = levels.ge_(dropped_levels - LEVELS // 2).to(values.dtype)
        return kept.mul_(LEVELS / (LEVELS - dropped_levels))


def _levels(shape: Sequence[int]) -> Int16[Tensor, "*shape"]:
    """Draw two random bytes a value."""
    count = math.prod(shape)
    draws = torch.empty(count // MASKS_A_DRAW + 1, dtype=torch.int64)
    draws.random_(torch.iinfo(torch.int64).min, None)  # all 64 bits
    return draws.view(torch.int16)[:count].view(shape)

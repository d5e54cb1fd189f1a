"""How a tile looks in six numbers: what tells an unlike slide where features are pixels."""

from typing import Final

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

COLOR_STATISTICS: Final = 6
_COLORS: Final = 3
_VALUES_AT_ONCE: Final = 1 << 22


def color_statistics(pixels: UInt8[Tensor, "tiles values"]) -> Float[Tensor, "tiles 6"]:
    """Return mean and then standard deviation of red, green and blue over each flattened tile, in 0-255.

    Single pixels would not do: their range is narrow against their own spread, so that even a tile turned
    inside out lies about one deviation from the mean pixel. Means and contrasts of tiles vary far less.

    >>> color_statistics(torch.tensor([[10, 20, 30, 20, 20, 50]], dtype=torch.uint8)).tolist()
    [[15.0, 20.0, 40.0, 5.0, 0.0, 10.0]]
    """
    rows = max(1, _VALUES_AT_ONCE // pixels.shape[1])
    blocks = [pixels[start : start + rows] for start in range(0, len(pixels), rows)]
    return torch.cat([_describe(block) for block in blocks])


def _describe(pixels: UInt8[Tensor, "tiles values"]) -> Float[Tensor, "tiles 6"]:
    colors = pixels.reshape(len(pixels), -1, _COLORS).float()
    deviation, mean = torch.std_mean(colors, dim=1, correction=0)
    return torch.cat([mean, deviation], dim=1)

"""Bytes of pixels as the numbers that a network is fed: by arithmetic on a GPU, by a table on a CPU."""

from typing import Final

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from wsi_kd.core.shapes import TileBatch

LEVELS: Final = 256
_BITS: Final = {2: torch.int16, 4: torch.int32}
"""Integers of as many bytes as a type of numbers: OpenCV knows no bfloat16, and copies what it looks up."""

ColorRow = Float32[Tensor, "1 3 1 1"]
"""A number for red, green and blue."""


def normalized(pixels: UInt8[Tensor, "tiles 3 height width"], mean: ColorRow, scale: ColorRow) -> Tensor:
    """Return (pixel - mean) scale, float32, in the memory format of `pixels`."""
    return pixels.float().sub_(mean).mul_(scale)


class ByteTable:
    """`normalized` on a CPU, rounded to a type, by looking up the 256 levels of each color.

    The same bits as arithmetic on every pixel, in a third of its time: that passes four times over floats,
    twice of them against three numbers a pixel, which suit vector registers badly.
    """

    def __init__(self, mean: ColorRow, scale: ColorRow, dtype: torch.dtype) -> None:
        """Work the levels out.

        Args:
            mean: of each color, in levels.
            scale: what is multiplied with.
            dtype: of 2 or 4 bytes.
        """
        levels = torch.arange(LEVELS, dtype=torch.uint8).view(LEVELS, 1, 1, 1).expand(-1, 3, -1, -1)
        table = normalized(levels, mean, scale).to(dtype).view(LEVELS, 3)
        self._table = np.ascontiguousarray(table.view(_BITS[dtype.itemsize]).numpy())[None]
        self._dtype = dtype

    def __call__(self, tiles: TileBatch) -> Float[Tensor, "tiles 3 height width"]:
        """Return the numbers of tiles, channels last; on any thread."""
        rows = tiles.reshape(-1, *tiles.shape[2:])
        found = torch.from_numpy(np.asarray(cv2.LUT(rows, self._table))).view(self._dtype)
        return found.view(tiles.shape).permute(0, 3, 1, 2)

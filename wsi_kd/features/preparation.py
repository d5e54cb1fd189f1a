"""From tiles to what a network is fed: resized as its authors resize, the border cut off where they cut it.

`bilinear` and `bicubic` are torch's antialiased filters for bytes, what torchvision's `Resize` (v2) does to a
tensor: linear interpolation, or cubic with a = -0.5, whose reach grows with the factor where tiles shrink
(Pillow's formula). Weights are rounded to 16 bits, so that some values differ from Pillow's, which `Resize`
takes for images: by 1 of 255 at most, bicubic by 2, at usual factors fewer than 2 in 100 of them. They take a
sixth of Pillow's time and leave the interpreter's lock free; a tile's bytes depend neither on the tiles
beside it nor on the processor.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8

from wsi_kd.core.shapes import TileBatch
from wsi_kd.features.encoder_row import Interpolation

Prepared = UInt8[np.ndarray, "tiles input_px input_px 3"]
Resized = UInt8[np.ndarray, "tiles resize_px resize_px 3"]
# The functions behind torch.nn.functional.interpolate(antialias=True): called by themselves they write into
# an array that is there. The AVX2 kernels for bytes start no threads of their own.
_FILTERS: Final[dict[Interpolation, Any]] = {
    "bilinear": torch.ops.aten._upsample_bilinear2d_aa.out,
    "bicubic": torch.ops.aten._upsample_bicubic2d_aa.out,
}


class Preparation(NamedTuple):
    """How a tile becomes an input."""

    input_px: int
    """Edge that the network is fed."""
    resize_px: int
    """Edge that a tile is resized to; at least `input_px`, the rest is cut off evenly on all sides."""
    interpolation: Interpolation


def prepare_tiles(tiles: TileBatch, how: Preparation, out: Prepared | None = None) -> Prepared:
    """Resize and crop square tiles (tiles, edge, edge, 3), uint8, into `out` where it is given.

    Without `out`, tiles that fit are returned as they are.
    """
    fits = tiles.shape[1] == how.resize_px
    start = crop_start(how.resize_px, how.input_px)
    end = start + how.input_px
    if out is None:
        if fits:
            return np.ascontiguousarray(tiles[:, start:end, start:end])
        out = np.empty((len(tiles), how.input_px, how.input_px, 3), np.uint8)
    if fits:
        out[...] = tiles[:, start:end, start:end]
    elif how.resize_px == how.input_px:
        _resize(tiles, how.interpolation, out)
    else:
        whole = np.empty((len(tiles), how.resize_px, how.resize_px, 3), np.uint8)
        _resize(tiles, how.interpolation, whole)
        out[...] = whole[:, start:end, start:end]
    return out


def crop_start(resize_px: int, input_px: int) -> int:
    """Return the first row and column of a central crop, as torchvision's CenterCrop rounds it.

    >>> crop_start(256, 224), crop_start(224, 224)
    (16, 0)
    """
    return round((resize_px - input_px) / 2.0)


def _resize(tiles: TileBatch, interpolation: Interpolation, out: Resized) -> None:
    if len(tiles):
        whole = np.require(tiles, requirements=["C", "W"])
        _FILTERS[interpolation](_as_planes(whole), out.shape[1:3], False, None, None, out=_as_planes(out))  # noqa: FBT003 - align_corners


def _as_planes(tiles: TileBatch) -> torch.Tensor:
    """See height, width, color as color, height, width: torch's channels_last, of which nothing is copied."""
    return torch.from_numpy(tiles).permute(0, 3, 1, 2)

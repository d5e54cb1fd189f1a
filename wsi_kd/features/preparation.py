"""From tiles to what a network is fed: resized as its authors resize, the border cut off where they cut it.

`area` is this project's own default (OpenCV: area when shrinking, linear when enlarging). `bilinear` and
`bicubic` are Pillow's, antialiased, on bytes: what torchvision's `Resize` does to an image, byte for byte.
"""

from typing import Final, NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from wsi_kd.core.shapes import TileBatch
from wsi_kd.features.encoder_row import Interpolation

Prepared = UInt8[np.ndarray, "tiles input_px input_px 3"]
_RESAMPLING: Final = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


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
    edge = tiles.shape[1]
    fits = tiles.shape[1:3] == (how.resize_px, how.resize_px)
    start = crop_start(how.resize_px, how.input_px)
    end = start + how.input_px
    if out is None:
        if fits:
            return np.ascontiguousarray(tiles[:, start:end, start:end])
        out = np.empty((len(tiles), how.input_px, how.input_px, 3), np.uint8)
    for tile, prepared in zip(tiles, out, strict=True):
        whole = tile if fits else _resized(np.ascontiguousarray(tile), how, shrinks=how.resize_px < edge)
        prepared[...] = whole[start:end, start:end]
    return out


def crop_start(resize_px: int, input_px: int) -> int:
    """Return the first row and column of a central crop, as torchvision's CenterCrop rounds it.

    >>> crop_start(256, 224), crop_start(224, 224)
    (16, 0)
    """
    return round((resize_px - input_px) / 2.0)


def _resized(tile: np.ndarray, how: Preparation, *, shrinks: bool) -> np.ndarray:
    size = (how.resize_px, how.resize_px)
    if how.interpolation == "area":
        return cv2.resize(tile, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(Image.fromarray(tile).resize(size, _RESAMPLING[how.interpolation]))

"""Encoder `pixels`: no features at all but the tile itself, for models that learn from images end to end."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from wsi_kd.core.files import content_hash
from wsi_kd.core.shapes import TileBatch
from wsi_kd.features.encoder_row import OWN_INTERPOLATION

PIXELS = "pixels"
PIXELS_DTYPE = "uint8"


class PixelsEncoder:
    """The `Encoder` that hands on RGB pixels: uint8, row by row, red, green and blue side by side.

    Tiles of another edge than `input_px` are resized as a network's are. Edge and filter stand in `settings`,
    so that a model knows what it was shown.
    """

    name = PIXELS
    weights_hash = content_hash({"pixels": 1})
    feature_names: tuple[str, ...] = ()
    encodes_in_threads = True

    def __init__(self, input_px: int) -> None:
        self.input_px: int | None = input_px
        self.edge_px = input_px
        self.feature_dim = 3 * input_px**2
        self.settings: Mapping[str, Any] = {
            "input_px": input_px,
            "interpolation": OWN_INTERPOLATION,
            "dtype": PIXELS_DTYPE,
        }

    def __call__(self, tiles: TileBatch) -> UInt8[np.ndarray, "tiles features"]:
        """Flatten tiles, one row a tile."""
        if tiles.shape[1] != self.edge_px:
            from wsi_kd.features.preparation import Preparation, prepare_tiles  # loads torch

            tiles = prepare_tiles(tiles, Preparation(self.edge_px, self.edge_px, OWN_INTERPOLATION))
        return tiles.reshape(len(tiles), self.feature_dim)

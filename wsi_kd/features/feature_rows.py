"""The features of a slide's tiles in one array, filled batch by batch: nothing is held twice."""

import numpy as np
from jaxtyping import Bool, Int64

from wsi_kd.core.shapes import FeatureArray

MOVED_TILES = 1024
"""Rows moved at a time where tiles were left out."""


class FeatureRows:
    """One array for the features of all tiles, made when their type is known."""

    def __init__(self, tiles: int, dtype: str | None) -> None:
        """Wait for the first features."""
        self.largest = 0.0
        self._tiles = tiles
        self._dtype = dtype
        self._values: FeatureArray | None = None

    def put(self, rows: Int64[np.ndarray, "tiles"], features: FeatureArray) -> None:
        """Round features to the stored type, into their rows."""
        if self._values is None:
            dtype = features.dtype if features.dtype == np.uint8 else self._dtype or features.dtype
            self._values = np.empty((self._tiles, features.shape[1]), dtype)
        if features.dtype != np.uint8:
            self.largest = float(np.maximum(self.largest, np.abs(features).max(initial=0.0)))
        with np.errstate(over="ignore"):
            self._values[rows] = features

    def joined(self, kept: Bool[np.ndarray, "laid"], feature_dim: int) -> FeatureArray:
        """Move the kept rows to the front, a few at a time, and return them."""
        if self._values is None:
            return np.zeros((0, feature_dim), self._dtype or np.float32)
        end = 0
        for start in range(0, 0 if kept.all() else len(kept), MOVED_TILES):
            block = slice(start, start + MOVED_TILES)
            moved = self._values[block][kept[block]]
            self._values[end : end + len(moved)] = moved
            end += len(moved)
        return self._values[: np.count_nonzero(kept)]

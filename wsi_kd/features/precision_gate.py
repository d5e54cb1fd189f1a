"""Whether a network in fewer bits, or compiled, still gives the features it gives in float32."""

from typing import Final

import numpy as np
from jaxtyping import Float32, Float64

from wsi_kd.core.errors import BadInput

LEAST_COSINE: Final = 0.999
"""Of a tile's features with those in float32; below it, distances between tiles are others."""
GATE_TILES: Final = 32
"""Tiles that are compared, the first that are encoded: the float32 network is dropped after them."""

Features = Float32[np.ndarray, "tiles features"]


def least_cosine(exact: Features, found: Features) -> float:
    """Return the smallest of the cosines of `tile_cosines`; 1 where there is no tile."""
    return float(tile_cosines(exact, found).min(initial=1.0))


def tile_cosines(exact: Features, found: Features) -> Float64[np.ndarray, "tiles"]:
    """Return the cosine of every two like rows; two rows of zeros are alike, one of them is not.

    >>> rows = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    >>> tile_cosines(rows, np.array([[4.0, 3.0], [0.0, 0.0]], np.float32)).tolist()
    [0.96, 1.0]
    """
    first, second = exact.astype(np.float64), found.astype(np.float64)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    alike = np.where((first == second).all(axis=1), 1.0, 0.0)
    products = (first * second).sum(axis=1)
    cosines: Float64[np.ndarray, "tiles"] = np.divide(products, norms, out=alike, where=norms > 0)
    return cosines


def check_precision(encoder: str, exact: Features, found: Features, *, what: str) -> None:
    """Refuse features that are not those of float32.

    Args:
        encoder: its name.
        exact: features of some tiles in float32.
        found: of the same tiles as they are computed here.
        what: setting by which they are.

    Raises:
        BadInput: a cosine below `LEAST_COSINE`, or features that are not finite beside ones that are.
    """
    cosine = least_cosine(exact, found)
    if not cosine >= LEAST_COSINE:
        raise BadInput(
            f"encoder '{encoder}': with embed.{what} the features of a tile have a cosine of {cosine:.4f} "
            f"with those in float32, {LEAST_COSINE} are needed; set embed.precision: float32 and leave "
            "embed.compile off"
        )

"""What is read of another program's feature file, before it is brought to this project's words."""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float64

from wsi_kd.core.shapes import FeatureArray, TileLabels

MAX_VALUES = 2**32
"""16 GiB of float32: more is a damaged shape, not a slide."""


class ForeignParts(NamedTuple):
    """Arrays and attributes of one slide as the file holds them."""

    features: FeatureArray
    coords: Float64[np.ndarray, "tiles 2"] | None
    """Top-left corners in `unit`; None where the file has none."""
    unit: Literal["level0_px", "um"]
    attributes: Mapping[str, Any]
    """Single numbers and texts, JSON values, by the program's own names."""
    tile_labels: TileLabels | None = None


def feature_rows(values: np.ndarray) -> FeatureArray:
    """Bring (tiles, features) or TRIDENT's (1, tiles, features) to rows of native float16 or float32.

    Values that are so already are handed back as they are.

    Raises:
        ValueError: another shape or type.
    """
    if values.dtype.kind != "f":
        raise ValueError(f"features of shape {values.shape} and type {values.dtype}")
    if values.ndim == 3 and len(values) == 1:  # noqa: PLR2004 - TRIDENT's batch axis
        values = values[0]
    if values.ndim != 2 or (len(values) and not values.shape[1]):  # noqa: PLR2004 - rows and columns
        raise ValueError(f"features of shape {values.shape}, expected (tiles, features)")
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, which is refused by name
        half = values.dtype.itemsize == np.float16().itemsize
        return np.ascontiguousarray(values, np.float16 if half else np.float32)


def coord_rows(values: np.ndarray) -> Float64[np.ndarray, "tiles 2"]:
    """Bring coordinates (or TRIDENT's with a batch axis) to float64 (tiles, 2).

    Raises:
        ValueError: another shape, or numbers that are not finite.
    """
    rows = np.asarray(values, np.float64)
    if rows.ndim == 3 and len(rows) == 1:  # noqa: PLR2004 - TRIDENT's batch axis
        rows = rows[0]
    if rows.ndim != 2 or rows.shape[1] != 2 or not np.isfinite(rows).all():  # noqa: PLR2004 - x and y
        raise ValueError(f"coordinates of shape {values.shape}, expected finite (tiles, 2)")
    return rows


def label_rows(values: np.ndarray) -> TileLabels:
    """Bring instance labels (tiles,) or (tiles, 1) to int8: 1, 0, or -1 for unknown.

    Raises:
        ValueError: other values.
    """
    flat = np.asarray(values).reshape(-1)
    if flat.size and not np.isin(flat, (-1, 0, 1)).all():
        raise ValueError("instance labels other than -1, 0 and 1")
    return flat.astype(np.int8)


def plain_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Keep attributes that are single finite numbers or texts, as JSON values; the maker's paths stay out."""
    plain = {_text(str(key)): _plain(value) for key, value in attributes.items()}
    return {key: value for key, value in plain.items() if value is not None and not key.endswith(_PATHS)}


_PATHS = ("savetodir", "_path", "_dir")
"""How attributes are called that name folders of another machine, which may be called after people."""


def _plain(value: Any) -> str | int | float | None:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, int | float) else None


def _text(value: str) -> str:
    """Mark bytes that are no UTF-8, which h5py hands over as halves of characters that no file takes."""
    return value.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")

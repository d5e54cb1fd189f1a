"""Whether all numbers of a large array are finite, in one pass of integers."""

from typing import Final, NamedTuple

import numpy as np

from wsi_kd.core.shapes import FeatureArray

VALUES_AT_ONCE: Final = 1 << 17
"""Whose bits fit the processor's cache."""


class _Bits(NamedTuple):
    """How a floating-point number is written."""

    integers: str
    """Type of as many bits."""
    unsigned: int
    """All bits but the sign."""
    infinity: int


_BITS: Final = {
    np.dtype(np.float16): _Bits("u2", 0x7FFF, 0x7C00),
    np.dtype(np.float32): _Bits("u4", 0x7FFF_FFFF, 0x7F80_0000),
}


def all_finite(values: FeatureArray) -> bool:
    """Tell whether no number is NaN or infinite; integers never are.

    In IEEE 754 those are the numbers whose bits without the sign are not below infinity's. `np.isfinite` on
    float16 takes ten times as long.

    >>> all_finite(np.array([[1.0, -65504.0]], np.float16)), all_finite(np.array([[1.0, np.nan]], np.float16))
    (True, False)
    """
    if values.dtype not in _BITS:
        return bool(np.isfinite(values).all())
    written = _BITS[values.dtype]
    bits = np.ascontiguousarray(values).reshape(-1).view(written.integers)
    blocks = (bits[start : start + VALUES_AT_ONCE] for start in range(0, len(bits), VALUES_AT_ONCE))
    return all(int((block & written.unsigned).max()) < written.infinity for block in blocks)

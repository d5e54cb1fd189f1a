"""Masks of one bit a pixel, read and written in runs of rows: an eighth of the memory of one byte a pixel."""

import numpy as np
from jaxtyping import UInt8

from wsi_kd.core.shapes import Mask

_BITS = 8


class BitMask:
    """A mask as large as an overview, false everywhere at first.

    Rows are taken out and put in as arrays of booleans; sets of pixels are joined and cut as they are.

    >>> mask = BitMask((2, 3))
    >>> mask[0:1] = np.array([[True, False, True]])
    >>> mask[0:2].sum(axis=1).tolist(), mask.count(), (~mask).count()
    ([2, 0], 2, 4)
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        """Make an empty mask of `shape`: height, width."""
        self.shape = shape
        height, width = shape
        self._bytes = np.zeros((height, -(-width // _BITS)), np.uint8)

    @classmethod
    def of(cls, mask: Mask) -> "BitMask":
        """Pack a mask; bits past the last column are 0."""
        height, width = mask.shape
        return cls._made((height, width), np.packbits(mask, axis=1))

    def __len__(self) -> int:
        """Return the height."""
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Mask:
        """Return some rows."""
        return np.unpackbits(self._bytes[rows], axis=1, count=self.shape[1]).view(bool)

    def __setitem__(self, rows: slice, mask: Mask) -> None:
        """Put some rows in the place of those that are there."""
        self._bytes[rows] = np.packbits(mask, axis=1)

    def __or__(self, other: "BitMask") -> "BitMask":
        """Return where either is."""
        return self._made(self.shape, self._bytes | other._bytes)

    def __and__(self, other: "BitMask") -> "BitMask":
        """Return where both are."""
        return self._made(self.shape, self._bytes & other._bytes)

    def __invert__(self) -> "BitMask":
        """Return where it is not; bits past the last column stay 0."""
        inverse = ~self._bytes
        past = self._bytes.shape[1] * _BITS - self.shape[1]
        if past:
            inverse[:, -1] &= np.uint8(256 - 2**past)
        return self._made(self.shape, inverse)

    def any(self, rows: slice = slice(None)) -> bool:
        """Tell whether a pixel of some rows is true."""
        return bool(self._bytes[rows].any())

    def count(self) -> int:
        """Count the true pixels."""
        return int(np.bitwise_count(self._bytes).sum(dtype=np.int64))

    def whole(self) -> Mask:
        """Return all rows: one byte a pixel."""
        return self[slice(None)]

    @classmethod
    def _made(cls, shape: tuple[int, int], packed: UInt8[np.ndarray, "height bytes"]) -> "BitMask":
        mask = cls((0, 0))
        mask.shape, mask._bytes = shape, packed
        return mask


def packed(mask: Mask | BitMask) -> BitMask:
    """Return a mask as bits; one that is so already stays as it is."""
    return mask if isinstance(mask, BitMask) else BitMask.of(mask)

"""Stored samples -> 8-bit RGB: 16-bit, grayscale, palette, inverted and RGBA images."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8

from wsi_kd.slides.segments import Segment

BITS = 8
RGB, RGBA = 3, 4


class SampleModel(NamedTuple):
    """What the numbers of a stored image mean."""

    bits: int
    """Bits a sample that carry information: 12 of a 16-bit word where the file says so."""
    inverted: bool
    """0 is white."""
    colormap: UInt8[np.ndarray, "colors 3"] | None
    alpha: bool
    """The fourth sample is opacity."""
    premultiplied: bool
    """Colors were multiplied by the opacity when they were stored."""


def to_rgb(samples: Shaped[np.ndarray, "height width stored"], model: SampleModel) -> Segment:
    """Map samples to 8-bit RGB, or RGBA with straight alpha where the file has opacity.

    More than 8 bits are shifted right by (bits - 8); fewer are stretched over 0 to 255. The mapping depends
    on the declared depth alone, never on the pixels of a region. One sample is shown as gray.
    """
    if model.colormap is not None:
        return np.ascontiguousarray(model.colormap[samples[..., 0]])
    values = _eight_bits(samples, model.bits)
    if model.inverted:
        values = 255 - values
    if values.shape[2] < RGB:
        return np.repeat(values[..., :1], RGB, axis=2)
    if not model.alpha:
        return np.ascontiguousarray(values[..., :RGB])
    return _straight(values[..., :RGBA]) if model.premultiplied else np.ascontiguousarray(values[..., :RGBA])


def _eight_bits(samples: Shaped[np.ndarray, "height width samples"], bits: int) -> Segment:
    if samples.dtype == np.uint8 and bits == BITS:
        return samples
    if bits >= BITS:
        shifted: Segment = np.minimum(samples >> (bits - BITS), 255).astype(np.uint8)
        return shifted
    largest = (1 << bits) - 1
    return ((samples.astype(np.uint32) * 255 + largest // 2) // largest).astype(np.uint8)


def _straight(values: Segment) -> Segment:
    """Divide premultiplied colors by their opacity; where that is 0 the color is 0."""
    alpha = values[..., RGB:].astype(np.uint32)
    colors = (values[..., :RGB].astype(np.uint32) * 255 + alpha // 2) // np.maximum(alpha, 1)
    return np.concatenate([np.minimum(colors, 255), alpha], axis=2).astype(np.uint8)

"""The embedded encoder: 100 descriptors of stain and texture for a tile, without weights.

Red, green, blue become optical density and are unmixed into hematoxylin, eosin and a residual (Ruifrok and
Johnston 2001, fixed stain vectors). Pixels are kept as whole 8-bit levels and filtered by box sums, which are
exact, so that a tile and its flips and quarter turns give the same descriptors. Texture is measured on
hematoxylin and divided by the tile's own mean, so that a slide stained twice as strongly looks alike; the
absolute strength is in the first columns.
"""

from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from wsi_kd.core.shapes import TileBatch

HEMATOXYLIN_OD = (0.650, 0.704, 0.286)
EOSIN_OD = (0.072, 0.990, 0.105)
LEVELS_PER_OD = 85.0  # optical density 3 (natural logarithm) is level 255
STAIN_TEXTURE_VERSION = 2
RESIDUAL_ZERO = 128.0  # the residual has both signs
MIN_MEAN_LEVEL = 8.0  # on glass, texture is divided by this instead of a mean near 0
RELATIVE_EDGES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.75, 2.5)
SMOOTHING_PX = (1, 3, 5, 9, 17)
GRADIENT_PX = (1, 3, 9)
PATTERN_RADII_PX = (1, 3)
PATTERN_MIN_LEVELS = 3
MAX_CHANGES = 2
OPENING_PX = (3, 5, 9, 13, 17, 25)
BLOB_MIN_RISE = 0.1
BORDER = cv2.BORDER_REFLECT

_STAINS = ("hematoxylin", "eosin", "residual")
FEATURE_NAMES: tuple[str, ...] = (
    *(f"{statistic}_{color}" for statistic in ("mean", "std") for color in ("red", "green", "blue")),
    *(f"{stain}_{part}" for stain in _STAINS for part in ("mean", "std", "skew", "p10", "p50", "p90")),
    "hematoxylin_share",
    "hematoxylin_eosin_correlation",
    *(f"{stain}_relative_bin{k}" for stain in _STAINS[:2] for k in range(len(RELATIVE_EDGES) + 1)),
    *(f"gradient{px}_{part}" for px in GRADIENT_PX for part in ("mean", "std", "skew", "coherence")),
    *(f"pattern{radius}_{k}" for radius in PATTERN_RADII_PX for k in range(10)),
    *(f"blob{px}_{p}" for px in SMOOTHING_PX[:-1] for p in ("std", "rise", "skew", "density", "height")),
    *(f"opening{px}_loss" for px in OPENING_PX),
)


class _Stains(NamedTuple):
    hematoxylin: UInt8[np.ndarray, "height width"]
    eosin: UInt8[np.ndarray, "height width"]
    residual: UInt8[np.ndarray, "height width"]


def stain_texture(tiles: TileBatch) -> Float32[np.ndarray, "tiles features"]:
    """Describe each tile by `FEATURE_NAMES`; tiles of any edge from 8 px, every value finite.

    Colors, stains and shares lie in 0-1; texture is in multiples of the tile's mean hematoxylin level.
    """
    described = np.empty((len(tiles), len(FEATURE_NAMES)), np.float32)
    for row, tile in zip(described, tiles, strict=True):
        row[:] = _describe(np.ascontiguousarray(tile))
    return described


def _describe(tile: UInt8[np.ndarray, "height width 3"]) -> Float64[np.ndarray, "features"]:
    stains = _unmix(tile)
    counts = [_histogram(stain) for stain in stains]
    mean_level = _moments(counts[0])[0] * 255.0
    unit = max(mean_level, MIN_MEAN_LEVEL)
    smooth = [_smooth(stains.hematoxylin, px) for px in SMOOTHING_PX]
    return np.concatenate(
        [
            _colors(tile),
            *([*_moments(count), *_percentiles(count)] for count in counts),
            _stain_balance(stains, counts),
            *(_relative_bins(count) for count in counts[:2]),
            *(_gradients(smooth[SMOOTHING_PX.index(px)], unit) for px in GRADIENT_PX),
            *(_patterns(stains.hematoxylin, radius) for radius in PATTERN_RADII_PX),
            *(_blobs(smooth[k] - smooth[k + 1], SMOOTHING_PX[k], unit) for k in range(len(smooth) - 1)),
            _granulometry(stains.hematoxylin, unit),
        ]
    )


def _unmix(tile: UInt8[np.ndarray, "height width 3"]) -> _Stains:
    density = cv2.LUT(tile, _OPTICAL_DENSITY)
    levels = cv2.transform(density, _TO_LEVELS)
    rounded = cv2.addWeighted(levels, 1.0, levels, 0.0, 0.0, dtype=cv2.CV_8U)
    return _Stains(*cv2.split(rounded))


def _stain_matrix() -> Float32[np.ndarray, "3 4"]:
    """Optical density (red, green, blue, 1) -> 8-bit levels of hematoxylin, eosin and residual."""
    stains = np.array([HEMATOXYLIN_OD, EOSIN_OD])
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    residual = np.cross(*stains)
    basis = np.vstack([stains, residual / np.linalg.norm(residual)])
    to_levels = np.linalg.inv(basis).T * LEVELS_PER_OD
    return np.column_stack([to_levels, [0.0, 0.0, RESIDUAL_ZERO]]).astype(np.float32)


def _histogram(levels: UInt8[np.ndarray, "height width"]) -> Float64[np.ndarray, "256"]:
    """Share of pixels at each 8-bit level."""
    counts = cv2.calcHist([levels], [0], None, [256], [0, 256]).ravel()
    return counts.astype(np.float64) / levels.size


def _moments(shares: Float64[np.ndarray, "256"]) -> tuple[float, float, float]:
    """Mean, standard deviation and asymmetry (third central moment over variance), all within -1 and 1."""
    mean = float(shares @ _LEVELS)
    centered = _LEVELS - mean
    variance = float(shares @ centered**2)
    return mean, float(np.sqrt(variance)), float(shares @ centered**3) / (variance + 1 / 255.0**2)


def _percentiles(shares: Float64[np.ndarray, "256"]) -> Float64[np.ndarray, "3"]:
    found = np.searchsorted(np.cumsum(shares), (0.1, 0.5, 0.9))
    return np.asarray(np.minimum(found, 255) / 255.0)


def _colors(tile: UInt8[np.ndarray, "height width 3"]) -> Float64[np.ndarray, "6"]:
    mean, deviation = cv2.meanStdDev(tile)
    return np.concatenate([mean.ravel(), deviation.ravel()]) / 255.0


def _stain_balance(stains: _Stains, counts: list[Float64[np.ndarray, "256"]]) -> tuple[float, float]:
    """Share of hematoxylin in both stains, and their correlation over the tile (0 where one is flat)."""
    (mean_h, std_h, _), (mean_e, std_e, _) = _moments(counts[0]), _moments(counts[1])
    product = cv2.norm(stains.hematoxylin, stains.eosin, cv2.NORM_L2SQR)
    squares = (counts[0] + counts[1]) @ _LEVELS**2
    covariance = (squares - product / stains.eosin.size / 255.0**2) / 2 - mean_h * mean_e
    floor = 1 / 255.0
    return (mean_h + floor) / (mean_h + mean_e + 2 * floor), covariance / (
        max(std_h, floor) * max(std_e, floor)
    )


def _relative_bins(shares: Float64[np.ndarray, "256"]) -> Float64[np.ndarray, "bins"]:
    """Share of pixels between multiples of the tile's own mean (`RELATIVE_EDGES`)."""
    mean = max(float(shares @ _LEVELS), MIN_MEAN_LEVEL / 255.0)
    below = [shares[mean * edge > _LEVELS].sum() for edge in RELATIVE_EDGES]
    return np.diff([0.0, *below, 1.0])


def _smooth(levels: UInt8[np.ndarray, "height width"], px: int) -> Float32[np.ndarray, "height width"]:
    """Smooth by a box of `px` twice: a triangle window of deviation about `px / 2.45`."""
    total = levels.astype(np.float32)
    if px == 1:
        return total
    for _ in range(2):
        total = np.asarray(cv2.boxFilter(total, cv2.CV_32F, (px, px), normalize=False, borderType=BORDER))
    return np.asarray(total * np.float32(1 / px**4))


def _gradients(image: Float32[np.ndarray, "height width"], unit: float) -> tuple[float, float, float, float]:
    """Mean, deviation and skew of the slope, and how far all slopes point one way (0 any way, 1 one way)."""
    along_x = cv2.Sobel(image, cv2.CV_32F, 1, 0, scale=0.125, borderType=BORDER)
    along_y = cv2.Sobel(image, cv2.CV_32F, 0, 1, scale=0.125, borderType=BORDER)
    squared_x, squared_y = along_x * along_x, along_y * along_y
    xx, yy = _mean(squared_x), _mean(squared_y)
    coherence = np.hypot(xx - yy, 2 * _mean(along_x * along_y)) / (xx + yy + 1e-3)
    return *_spread(np.sqrt(squared_x + squared_y), unit), float(coherence)


def _spread(image: Float32[np.ndarray, "height width"], unit: float) -> tuple[float, float, float]:
    """Mean, standard deviation and asymmetry (third central moment over variance) in multiples of `unit`."""
    mean = _mean(image)
    centered = image - np.float32(mean)
    squared = centered * centered
    variance, third = _mean(squared), _mean(squared * centered)
    return mean / unit, float(np.sqrt(variance)) / unit, third / (variance + 1.0) / unit


def _mean(image: Float32[np.ndarray, "height width"]) -> float:
    """Mean in double precision; numpy's, since the last bit of BLAS and cv2 depends on where arrays lie."""
    return float(image.mean(dtype=np.float64))


def _patterns(levels: UInt8[np.ndarray, "height width"], radius: int) -> Float64[np.ndarray, "10"]:
    """Shares of the ten rotation-invariant uniform local binary patterns (Ojala et al. 2002, riu2).

    A neighbor counts as brighter from `PATTERN_MIN_LEVELS` on, so that noise on glass is one flat pattern.
    """
    smooth = np.asarray(levels if radius == 1 else cv2.blur(levels, (radius, radius), borderType=BORDER))
    height, width = smooth.shape
    framed = np.asarray(cv2.copyMakeBorder(smooth, radius, radius, radius, radius, BORDER))
    raised = np.minimum(smooth, 256 - PATTERN_MIN_LEVELS) + np.uint8(PATTERN_MIN_LEVELS - 1)
    code = np.zeros(smooth.shape, np.uint8)
    for down, right in _NEIGHBORS:
        top, left = radius * (1 + down), radius * (1 + right)
        brighter = framed[top : top + height, left : left + width] > raised
        code += code
        code |= brighter.view(np.uint8)
    return np.bincount(_PATTERN_OF_CODE, weights=_histogram(code), minlength=10)


def _blobs(rise: Float32[np.ndarray, "height width"], px: int, unit: float) -> tuple[float, ...]:
    """Dark spots of about `px` to `2 px`: spread of the band-pass image, its rising part, its peaks.

    Density is the number of peaks a square of edge `4 px`, height their mean rise above the surround.
    """
    mean, deviation, skew = _spread(rise, unit)
    window = np.ones((2 * px + 1, 2 * px + 1), np.uint8)
    top = cv2.dilate(rise, window, borderType=BORDER)
    peaks = rise[(rise == top) & (rise > BLOB_MIN_RISE * unit)]
    density = peaks.size * (4 * px) ** 2 / rise.size
    height = float(peaks.mean()) / unit if peaks.size else 0.0
    risen = (cv2.norm(rise, cv2.NORM_L1) / rise.size + mean * unit) / 2  # mean of the positive part
    return deviation, risen / unit, skew, density, height


def _granulometry(levels: UInt8[np.ndarray, "height width"], unit: float) -> list[float]:
    """Hematoxylin lost by openings of growing size (pattern spectrum): most is lost at the nuclear size."""
    windows = [np.ones((px, px), np.uint8) for px in OPENING_PX]
    opened = [cv2.morphologyEx(levels, cv2.MORPH_OPEN, window) for window in windows]
    kept = [cv2.mean(image)[0] for image in (levels, *opened)]
    return [(before - after) / unit for before, after in pairwise(kept)]


def _pattern_classes() -> np.ndarray:
    """Map each 8-bit pattern to its number of set bits if uniform (at most two changes around), else to 9."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    changes = (bits != np.roll(bits, 1, axis=1)).sum(axis=1)
    return np.where(changes <= MAX_CHANGES, bits.sum(axis=1), 9)


_OPTICAL_DENSITY = -np.log((np.arange(256, dtype=np.float64) + 1) / 256).astype(np.float32)
_TO_LEVELS = _stain_matrix()
_LEVELS = np.arange(256) / 255.0
_NEIGHBORS = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
_PATTERN_OF_CODE = _pattern_classes()

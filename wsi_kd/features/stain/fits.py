"""What is known of a slide's staining, as plain numbers that travel in headers."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float64, UInt8

Method: TypeAlias = Literal["macenko", "vahadane", "reinhard"]
PixelRows: TypeAlias = UInt8[np.ndarray, "pixels 3"]
"""RGB pixels, their places forgotten."""
DensityRows: TypeAlias = Float64[np.ndarray, "pixels 3"]
"""Optical density (natural logarithm) of red, green and blue."""
StainMatrix: TypeAlias = Float64[np.ndarray, "2 3"]
"""Optical density of hematoxylin (row 0) and eosin (row 1) in red, green and blue; rows of length 1."""
Triple: TypeAlias = Float64[np.ndarray, "3"]


class CannotFit(Exception):
    """The pixels do not show two stains; the message says what was found, in one line."""


class StainFit(NamedTuple):
    """Two stains by Beer-Lambert: I = light exp(-c W), c the concentrations, W the matrix."""

    matrix: StainMatrix
    strength: Float64[np.ndarray, "2"]
    """99th percentile of the concentration of each stain."""
    light: Triple
    """Levels (0-255) of bare glass."""


class ColorFit(NamedTuple):
    """Mean and deviation of stained pixels in Ruderman's l, alpha, beta."""

    mean: Triple
    deviation: Triple


Fit: TypeAlias = StainFit | ColorFit


def as_numbers(fit: Fit) -> dict[str, Any]:
    """Return a fit as JSON values; `from_numbers` gives it back bit for bit."""
    return {name: value.tolist() for name, value in fit._asdict().items()}


def from_numbers(numbers: Mapping[str, Any]) -> Fit:
    """Return the fit that `as_numbers` wrote."""
    arrays = {name: np.asarray(value, np.float64) for name, value in numbers.items()}
    return StainFit(**arrays) if "matrix" in arrays else ColorFit(**arrays)

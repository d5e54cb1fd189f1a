"""Color transfer by Reinhard's method: mean and deviation of decorrelated colors become those of a target.

Reinhard, Ashikhmin, Gooch, Shirley: "Color transfer between images", IEEE Computer Graphics and Applications
21 (2001), equations 4 to 11, in the space l, alpha, beta of Ruderman, Cronin and Chiao (1998): the logarithm
of cone responses, decorrelated.
"""

import numpy as np
from jaxtyping import Float64

from wsi_kd.features.stain.fits import CannotFit, ColorFit, PixelRows

RGB_TO_LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
"""Equation 4."""
LOG_LMS_TO_LAB = np.diag([3**-0.5, 6**-0.5, 2**-0.5]) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])
"""Equation 6."""
MIN_DEVIATION = 1e-3


def reinhard_fit(pixels: PixelRows) -> ColorFit:
    """Return mean and deviation of pixels in l, alpha, beta.

    Raises:
        CannotFit: pixels of one color.
    """
    colors = to_lab(pixels)
    deviation = colors.std(axis=0)
    if deviation.min() < MIN_DEVIATION:
        raise CannotFit(f"one color alone: deviations {np.array2string(deviation, precision=2)}")
    return ColorFit(colors.mean(axis=0), deviation)


def to_lab(pixels: PixelRows) -> Float64[np.ndarray, "pixels 3"]:
    """Return l, alpha, beta with the natural logarithm; levels count from 1."""
    return np.asarray(np.log((pixels + 1.0) @ RGB_TO_LMS.T) @ LOG_LMS_TO_LAB.T)

"""Overviews of tissue drawn from stains, for the tests of what is found on a thumbnail."""

import numpy as np

GLASS = (243.0, 241.0, 245.0)
HEMATOXYLIN, EOSIN, DAB = (0.65, 0.70, 0.29), (0.13, 0.92, 0.44), (0.27, 0.57, 0.78)
_ROWS, _COLUMNS = np.indices((180, 240))
DISK = (_COLUMNS - 130) ** 2 + (_ROWS - 90) ** 2 <= 70**2
"""Where `overview` has tissue."""


def overview(*, eosin=0.5, hematoxylin=0.4, dab=0.0, seed=0):
    """Pixels (180, 240, 3): glass with a disk of 70 px, its stains as uneven as tissue at 8 um/px."""
    rng = np.random.default_rng(seed)
    grain, other = np.clip(rng.normal(1, 0.3, (2, 180, 240, 1)), 0.2, None)
    density = eosin * grain * np.float32(EOSIN) + hematoxylin * other * np.float32(HEMATOXYLIN)
    density = density + dab * grain * np.float32(DAB)
    light = np.float32(GLASS) * np.exp(-density * DISK[..., None]) + rng.normal(0, 1, (180, 240, 3))
    return np.clip(np.round(light), 0, 255).astype(np.uint8)

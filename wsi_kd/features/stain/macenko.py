"""Stain vectors by Macenko's method: the extreme directions in the plane that holds most optical density.

Macenko, Niethammer, Marron, Borland, Woosley, Guan, Schmitt, Thomas: "A method for normalizing histology
slides for quantitative analysis", ISBI 2009, section 2.2 (algorithm 1).
"""

import numpy as np

from wsi_kd.features.stain.fits import CannotFit, DensityRows, StainMatrix

EXTREME_PERCENTILE = 1.0
"""Macenko's alpha: robust extremes of the angle."""
MIN_ANGLE_DEGREES = 8.0
MIN_SPREAD = 0.04
"""Two stains spread the density across its main direction by this share of its length along it. Measured: two
stains 0.05 to 0.2 on real tiles, one stain with noise and JPEG 0.02 to 0.04 (docs/color.md)."""
MIN_SPREAD_OVER_NOISE = 1.2
"""They spread it within their plane this much more than anything else spreads it out of the plane."""


def macenko_matrix(density: DensityRows) -> StainMatrix:
    """Find the directions of two stains.

    The two leading right singular vectors of the densities span the plane; in it, each pixel has an angle;
    the 1st and 99th percentile of the angles are the stains. Hematoxylin is the one with more red in it.

    Args:
        density: of stained pixels, without glass.

    Raises:
        CannotFit: one stain alone: the extremes are too close, or the plane is no wider than the noise.
    """
    values, vectors = np.linalg.eigh(density.T @ density / len(density))
    noise, spread, length = np.sqrt(np.maximum(values, 0.0))
    if spread < MIN_SPREAD_OVER_NOISE * noise or spread < MIN_SPREAD * length:
        raise CannotFit(
            f"one stain alone: density spreads {spread:.2g} across its main direction, where it is "
            f"{length:.2g} long and noise is {noise:.2g}"
        )
    main = vectors[:, 2] * np.sign(vectors[:, 2].sum())
    plane = np.stack([main, vectors[:, 1]])
    along, across = plane @ density.T
    low, high = np.percentile(np.arctan2(across, along), [EXTREME_PERCENTILE, 100 - EXTREME_PERCENTILE])
    directions = np.array([[np.cos(angle), np.sin(angle)] for angle in (low, high)]) @ plane
    return ordered(directions)


def ordered(directions: StainMatrix) -> StainMatrix:
    """Put hematoxylin first, lengths 1: of the two it takes the larger share of red light.

    Raises:
        CannotFit: the directions are closer than `MIN_ANGLE_DEGREES`, or point to brighter than glass.
    """
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    angle = np.degrees(np.arccos(np.clip(unit[0] @ unit[1], -1.0, 1.0)))
    if angle < MIN_ANGLE_DEGREES:
        raise CannotFit(f"one stain alone: the two directions found are {angle:.1f} degrees apart")
    if (unit.sum(axis=1) <= 0).any():
        raise CannotFit("a direction found is brighter than glass")
    share_of_red = unit[:, 0] / unit.sum(axis=1)
    return np.asarray(unit[np.argsort(-share_of_red, kind="stable")])

"""What numbers and positions of a feature file can tell of a fault, where no hash does."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from wsi_kd.features.store import FeatureFile


def feature_faults(features: FeatureFile) -> tuple[str, ...]:
    """Tell what cannot be right, one clause a fault; finite values and shapes were checked on reading.

    Rows of zeros are what HDF5 returns where a writer was killed; positions outside the slide or used twice
    belong to another file or another frame.
    """
    if not len(features.features):
        return ()
    faults = []
    zeros = int((~features.features.any(axis=1)).sum())
    if zeros:
        faults.append(f"{zeros} of {len(features.features)} tiles are all zeros: a write that was cut off?")
    if features.header.get("coords_given", True):
        faults += _coord_faults(features.coords, features.header)
    return tuple(faults)


def _coord_faults(coords: np.ndarray, header: Mapping[str, Any]) -> list[str]:
    faults = []
    negative = int((coords < 0).any(axis=1).sum())
    if negative:
        faults.append(f"{negative} tiles begin left of or above the slide")
    size = np.array([int(header.get("level0_width") or 0), int(header.get("level0_height") or 0)])
    if size.all():
        outside = int((coords >= size).any(axis=1).sum())
        if outside:
            faults.append(f"{outside} tiles begin beyond the slide's {size[0]}x{size[1]} px")
    repeated = len(coords) - len(np.unique(coords, axis=0))
    if repeated:
        faults.append(f"{repeated} positions occur more than once")
    return faults

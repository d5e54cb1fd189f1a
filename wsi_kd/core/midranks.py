"""Ranks of numbers, equal ones at the mean of their places."""

import numpy as np
from jaxtyping import Float, Float64


def midranks(values: Float[np.ndarray, "values"]) -> Float64[np.ndarray, "values"]:
    """Return each value's place in ascending order, counted from 1; ties share the mean of their places.

    >>> midranks(np.array([0.3, 0.1, 0.3, 0.2])).tolist()
    [3.5, 1.0, 3.5, 2.0]
    """
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[group]

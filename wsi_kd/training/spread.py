"""How the training part's tiles spread, for the model to know its own later."""

from typing import Final

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from wsi_kd.bags.datasets import BagSet
from wsi_kd.mil.weno import TeacherStudent

MOST_ROWS: Final = 32_768
"""Instances that the covariance is taken of, evenly over the training part."""
ROWS_AT_ONCE: Final = 4096


@torch.no_grad()
def fit_spread(model: TeacherStudent, bags: BagSet) -> None:
    """Set the model's `FeatureSpread` by the training part; its scaling is fitted, it stands on the CPU."""
    model.spread.fit(second_moments(model, bags))


def second_moments(model: TeacherStudent, bags: BagSet) -> Float64[Tensor, "width width"]:
    """Return the mean of z z' over up to `MOST_ROWS` instances, z their z-scores; summed in float64."""
    count = len(bags.features)
    rows = np.linspace(0, count - 1, min(count, MOST_ROWS)).round().astype(np.int64)
    width = len(model.scaling.mean)
    total = torch.zeros(width, width, dtype=torch.float64)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        block = bags.features[rows[start : start + ROWS_AT_ONCE]]
        z_scores = model.z_scores(torch.from_numpy(block))
        total += z_scores.T @ z_scores
    return total / len(rows)

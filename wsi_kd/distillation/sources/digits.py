"""Source `digits`: the 1,797 handwritten digits of 8 x 8 px that come with sklearn."""

import numpy as np
import torch
from sklearn.datasets import load_digits

from wsi_kd.distillation.samples import ArrayInputs, Samples

EDGE_PX = 8
WHITE = 16.0


def read_digits(*, images: bool) -> Samples:
    """Return the digits, 0 to 1, as 64 numbers or as images (1, 8, 8)."""
    digits = load_digits()
    values = torch.from_numpy(digits.data.astype(np.float32)) / WHITE
    shaped = values.reshape(-1, 1, EDGE_PX, EDGE_PX) if images else values
    return Samples(ArrayInputs(shaped), digits.target.astype(np.int64), tuple(map(str, range(10))))

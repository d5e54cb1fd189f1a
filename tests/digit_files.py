"""Digits in MNIST's form, for tests that read or embed them."""

import gzip
from pathlib import Path

import numpy as np


def write_mnist(data: Path, pixels, labels) -> None:
    """Write images (n, 28, 28) and labels (n,), both uint8, as the two idx files below `data`."""
    (data / "mnist").mkdir(exist_ok=True)
    for kind, magic, values in (("images-idx3", 2051, pixels), ("labels-idx1", 2049, labels)):
        header = np.array([magic, *values.shape], ">i4").tobytes()
        (data / "mnist" / f"t10k-{kind}-ubyte.gz").write_bytes(gzip.compress(header + values.tobytes()))

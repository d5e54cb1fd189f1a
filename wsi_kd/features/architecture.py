"""A network without its classifier, and what it asks of its input."""

from typing import NamedTuple

from torch import nn

from wsi_kd.features.encoder_row import Color


class Architecture(NamedTuple):
    """A network without its classifier, and what it asks of its input."""

    network: nn.Module
    input_px: int
    pixel_mean: Color
    pixel_std: Color
    classifier: tuple[str, ...]
    """How the names of classifier weights begin; such weights in a file are left aside."""

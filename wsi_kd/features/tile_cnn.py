"""A small convolutional network for tiles, made to be distilled into: it reads every edge from 8 px.

    h_0 = ReLU(norm(conv3(x)))
    h_d = ReLU(norm(conv3(h_(d-1), stride 2)))
    features = mean over pixels of the last h

A narrow cousin of the networks of the CIFAR papers, without a classifier. Batch norm may stand here: a batch
of its training holds tiles of many slides, and in use its statistics are fixed numbers.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from jaxtyping import Float
from torch import Tensor, nn

TILE_CNN: Final = "tile_cnn"
CHANNELS: Final = (16, 32, 64, 128)
COLORS: Final = 3


class TileCnn(nn.Module):
    """Blocks `blocks.0`, ... of 3 x 3 convolution, batch norm and ReLU; all but the first halve the edge."""

    def __init__(self, *, channels: Sequence[int] = CHANNELS) -> None:
        super().__init__()
        widths = [COLORS, *channels]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(narrow, wide, 3, stride=2 if depth else 1, padding=1, bias=False),
                    nn.BatchNorm2d(wide),
                    nn.ReLU(),
                )
                for depth, (narrow, wide) in enumerate(pairwise(widths))
            )
        )

    def forward(self, pixels: Float[Tensor, "tiles 3 height width"]) -> Float[Tensor, "tiles features"]:
        """Return as many features as the last block has channels."""
        pooled: Tensor = self.blocks(pixels).mean(dim=(2, 3))
        return pooled

"""Networks from a tile's pixels to one vector, for `projectors`: none of them looks beyond the tile.

Wherever their papers have BatchNorm there is GroupNorm (Wu and He, ECCV 2018): the statistics of one bag
are its label's, and differ from those of a mix of instances. GroupNorm also gives each tile the same vector
in any chunk, so that a bag can be gone through piece by piece.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

CHANNELS: Final = 3
NORM_GROUPS: Final = 8


class ImageNetwork(NamedTuple):
    """A network (tiles, 3, tile_px, tile_px) -> (tiles, width)."""

    layers: nn.Module
    width: int


class NetworkKind(NamedTuple):
    """What is known of a network before it is built."""

    build: Callable[[int], ImageNetwork]
    """From the edge of a tile in pixels."""
    smallest_px: int
    """The smallest tile that leaves it a pixel to look at."""


def alexnet_cifar(tile_px: int) -> ImageNetwork:
    """WENO's encoder of CIFAR-10: 3 > 96 > 192 > 384 > 384 > 192 channels and three max poolings.

    Kernels of 5, 5, 3, 3, 3; poolings of 3 by 2 after the first, second and last. A tile of 32 px ends as
    192 x 3 x 3; larger ones are averaged to that.
    """
    pool = nn.MaxPool2d(3, stride=2)
    layers = nn.Sequential(
        *_convolution(CHANNELS, 96, 5),
        pool,
        *_convolution(96, 192, 5),
        pool,
        *_convolution(192, 384, 3),
        *_convolution(384, 384, 3),
        *_convolution(384, 192, 3),
        pool,
    )
    side = tile_px
    for _ in range(3):
        side = (side - 3) // 2 + 1
    return _flattened(layers, channels=192, side=side, largest=3)


def cnn_small(tile_px: int) -> ImageNetwork:
    """LeNet's two convolutions, as in ABMIL's paper: 20 and 50 channels of 5 x 5, each max-pooled by 2.

    For tiles of a digit's or a nucleus's size; what is left of larger ones is averaged to 5 x 5.
    """
    layers = nn.Sequential(
        nn.Conv2d(CHANNELS, 20, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
    side = ((tile_px - 4) // 2 - 4) // 2
    return _flattened(layers, channels=50, side=side, largest=5)


def resnet18(tile_px: int) -> ImageNetwork:
    """ResNet-18 (He et al., CVPR 2016, table 1) up to its mean over the grid: 512 numbers, any `tile_px`."""
    layers: list[nn.Module] = [
        nn.Conv2d(CHANNELS, 64, 7, stride=2, padding=3, bias=False),
        nn.GroupNorm(NORM_GROUPS, 64),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
    ]
    width = 64
    for channels, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [ResidualBlock(width, channels, stride=stride), ResidualBlock(channels, channels, stride=1)]
        width = channels
    return ImageNetwork(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), width)


class ResidualBlock(nn.Module):
    """relu(x + norm(conv(relu(norm(conv x))))), x through a 1 x 1 convolution where the shape changes."""

    def __init__(self, entering: int, channels: int, *, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(entering, channels, 3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(NORM_GROUPS, channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.GroupNorm(NORM_GROUPS, channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or entering != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(entering, channels, 1, stride=stride, bias=False),
                nn.GroupNorm(NORM_GROUPS, channels),
            )

    def forward(
        self, tiles: Float[Tensor, "tiles entering height width"]
    ) -> Float[Tensor, "tiles channels grid_height grid_width"]:
        """Transform the grid of each tile."""
        return torch.relu(self.shortcut(tiles) + self.body(tiles))


IMAGE_NETWORKS: Final[dict[str, NetworkKind]] = {
    "alexnet_cifar": NetworkKind(alexnet_cifar, smallest_px=15),
    "cnn_small": NetworkKind(cnn_small, smallest_px=16),
    "resnet18": NetworkKind(resnet18, smallest_px=8),
}


def _convolution(entering: int, channels: int, kernel: int) -> list[nn.Module]:
    convolution = nn.Conv2d(entering, channels, kernel, padding=kernel // 2)
    return [convolution, nn.GroupNorm(NORM_GROUPS, channels), nn.ReLU()]


def _flattened(layers: nn.Sequential, *, channels: int, side: int, largest: int) -> ImageNetwork:
    """Average a grid of more than `largest` a side down to it, and lay it out as one vector."""
    ending: list[nn.Module] = [nn.AdaptiveAvgPool2d(largest)] if side > largest else []
    grid = min(side, largest)
    return ImageNetwork(nn.Sequential(*layers, *ending, nn.Flatten()), channels * grid * grid)

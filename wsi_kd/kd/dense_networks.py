"""Networks from image to image, of any width: a large one to learn a task and small ones to take it over."""

from itertools import pairwise
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.energy_compression import HIGH, LOW

BATCH_AXES: Final = 4


class UNet(nn.Module):
    """A small U-Net that changes an image: clamp(x + f(x), -1, 1), f(x) = 0 before it is trained.

    Each level halves height and width and doubles the channels; parameters grow with the square of `width`.
    The mean of the coarsest level scales and shifts the channels that the last layer reads, so that every
    place knows of the whole image: what a color means depends on how all of it is stained (Perez, Strub, de
    Vries, Dumoulin, Courville: "FiLM: visual reasoning with a general conditioning layer", AAAI 2018). No
    layer normalizes: an image's output does not depend on the others of its batch, and the level of a color,
    which normalization would take away, stays known. Ronneberger, Fischer, Brox: "U-Net: convolutional
    networks for biomedical image segmentation", MICCAI 2015.

    Args:
        width: channels at full resolution.
        levels: how often it is halved.
        channels: of the images.
    """

    def __init__(self, width: int, *, levels: int = 2, channels: int = 3) -> None:
        super().__init__()
        if width < 1 or levels < 0:
            raise BadInput(f"U-Net of width {width} with {levels} levels: expected 1 or more, 0 or more")
        widths = [width * 2**level for level in range(levels + 1)]
        self.down = nn.ModuleList(_block(*pair) for pair in pairwise([channels, *widths]))
        self.up = nn.ModuleList(_block(fine + coarse, fine) for fine, coarse in reversed([*pairwise(widths)]))
        self.context = nn.Linear(widths[-1], 2 * width)
        self.last = nn.Conv2d(width, channels, 1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(
        self, images: Float[Tensor, "samples channels height width"]
    ) -> Float[Tensor, "samples channels height width"]:
        """Return the changed images; values are -1 to 1.

        Raises:
            BadInput: an edge that cannot be halved so often.
        """
        edge = 2 ** len(self.up)
        if images.ndim != BATCH_AXES or images.shape[-1] % edge or images.shape[-2] % edge:
            raise BadInput(
                f"images of shape {tuple(images.shape)}: expected (samples, channels, height, width) with "
                f"edges that are multiples of {edge}; crop or pad them"
            )
        values, kept = images, []
        for number, block in enumerate(self.down):
            values = block(nn.functional.avg_pool2d(values, 2) if number else values)
            kept.append(values)
        kept.pop()
        scale, shift = self.context(values.mean(dim=(2, 3)))[..., None, None].chunk(2, dim=1)
        for block in self.up:
            values = block(
                torch.cat([kept.pop(), nn.functional.interpolate(values, scale_factor=2.0)], dim=1)
            )
        changed: Tensor = (images + self.last(values * (1.0 + scale) + shift)).clamp(LOW, HIGH)
        return changed


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.Conv2d(after, after, 3, padding=1), nn.ReLU()
    )

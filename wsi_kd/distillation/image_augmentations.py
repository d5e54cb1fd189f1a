"""Augmentations of pictures: random crops and flips, and RandAugment as timm has it.

They work on batches of pictures (samples, channels, height, width) with values of 0 to 1, before anything is
mixed: strong recipes crop, flip, transform, then mix (Wightman et al., "ResNet strikes back", 2021; Hao et
al., NeurIPS 2023, arXiv 2305.15781, train by its A2). All draws come from the generators that
`kd.seeding.seeded` seeds.
"""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.features.torchvision_import import import_timm
from wsi_kd.kd.augmentation import Augmented
from wsi_kd.kd.batches import describe

Flip: TypeAlias = Literal["none", "horizontal", "both"]
IMAGE_AXES: Final = 4
CHANNELS: Final = (1, 3)
MAX_BYTE: Final = 255
MAX_MAGNITUDE: Final = 10
ROUNDING: Final = 1e-3
"""By which values of 0 to 1 may be off after interpolation."""
WIDEST: Final = 4.0 / 3.0
"""Of a crop, width over height; its inverse is the narrowest."""
GRAY: Final = (128, 128, 128)
"""What pictures that are moved or turned are filled with."""


@dataclass(frozen=True)
class RandomCrop:
    """Cut a part of each picture out and resize it to the picture's size, bilinearly; flip it or not.

    The part's share of the area is uniform in [smallest, 1], the logarithm of width over height is uniform
    between those of 3/4 and 4/3, cut off at the picture's sides, and its place is uniform.
    """

    smallest: float = 0.35
    flip: Flip = "horizontal"
    """Half of the pictures are mirrored left and right; of "both" half top and bottom too."""

    def __post_init__(self) -> None:
        if not 0.0 < self.smallest <= 1.0:
            raise BadInput(
                f"RandomCrop: smallest is {self.smallest}; expected a share of the area, above 0 to 1"
            )

    def __call__(self, inputs: Any, labels: Tensor | None) -> Augmented:
        """Return the parts; labels stay.

        Raises:
            BadInput: inputs that are no pictures.
        """
        pictures = _pictures(self, inputs)
        samples = len(pictures)
        area = self.smallest + (1.0 - self.smallest) * torch.rand(samples)
        ratio = torch.exp(math.log(WIDEST) * (2.0 * torch.rand(samples) - 1.0))
        sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=1).clamp(max=1.0)
        centers = (1.0 - sides) * (2.0 * torch.rand(samples, 2) - 1.0)
        signs = torch.where(torch.rand(samples, 2) < self._chances(), -1.0, 1.0)
        moves = torch.cat([torch.diag_embed(sides * signs), centers[:, :, None]], dim=2).to(pictures)
        grid = F.affine_grid(moves, list(pictures.shape), align_corners=False)
        cut = F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return Augmented(cut, labels)

    def _chances(self) -> Tensor:
        return torch.tensor([0.0 if self.flip == "none" else 0.5, 0.5 if self.flip == "both" else 0.0])


@dataclass(frozen=True)
class RandAugment:
    """Let each picture go through transformations drawn from 15 (colors, contrast, shear, shift, rotation).

    timm's: each of `operations` draws is applied with the chance 1/2, at a magnitude drawn from a normal
    distribution about `magnitude` (10 is the strongest). "rand-m7-mstd0.5" is `magnitude=7, deviation=0.5`.
    Pictures of one channel are transformed as gray ones.

    Source: Cubuk et al., "RandAugment: practical automated data augmentation with a reduced search space",
    2020.
    """

    magnitude: int = 7
    deviation: float = 0.5
    operations: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.magnitude <= MAX_MAGNITUDE or self.deviation < 0.0 or self.operations < 1:
            raise BadInput(
                f"{self}: expected a magnitude of 0 to {MAX_MAGNITUDE}, a deviation of at least 0 and one "
                "operation or more"
            )

    def __call__(self, inputs: Any, labels: Tensor | None) -> Augmented:
        """Return transformed pictures, on the device of `inputs`; labels stay.

        Raises:
            BadInput: inputs that are no pictures of 1 or 3 channels, or values outside of 0 to 1.
        """
        pictures = _pictures(self, inputs)
        low, high = (float(value) for value in pictures.aminmax())
        if pictures.shape[1] not in CHANNELS or low < -ROUNDING or high > 1.0 + ROUNDING:
            raise BadInput(
                f"RandAugment: {describe(pictures)} of {low:.3g} to {high:.3g}; expected pictures of 1 or 3 "
                "channels, 0 to 1: leave data.standardize out, and put it before what adds noise"
            )
        transform = _transform(self.magnitude, self.deviation, self.operations)
        done = [_transformed(picture, transform) for picture in pictures.cpu()]
        return Augmented(torch.stack(done).to(pictures), labels)


def _pictures(augment: Any, inputs: Any) -> Float[Tensor, "samples channels height width"]:
    if isinstance(inputs, Tensor) and inputs.is_floating_point() and inputs.ndim == IMAGE_AXES:
        return inputs
    raise BadInput(
        f"{type(augment).__name__}: inputs are {describe(inputs)}; expected pictures (samples, channels, "
        "height, width); of digits set data.images, for numbers take noise and mixup"
    )


def _transformed(picture: Tensor, transform: Callable[[Image.Image], Image.Image]) -> Tensor:
    channels = len(picture)
    pixels = (picture.clamp(0.0, 1.0) * MAX_BYTE).round().byte().expand(3, -1, -1)
    colored = transform(Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())))
    given = torch.from_numpy(np.array(colored)).permute(2, 0, 1).to(picture) / MAX_BYTE
    return given if channels > 1 else given.mean(dim=0, keepdim=True)


@cache
def _transform(magnitude: int, deviation: float, operations: int) -> Callable[[Image.Image], Image.Image]:
    import_timm()
    timm = importlib.import_module("timm.data.auto_augment")
    told = f"rand-m{magnitude}-n{operations}-mstd{deviation:g}"
    made: Callable[[Image.Image], Image.Image] = timm.rand_augment_transform(told, {"img_mean": GRAY})
    return made

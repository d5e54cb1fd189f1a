"""Pairs for learning to normalize stains: Macenko's version of real H&E crops, and these stained at random.

The target of a crop is its source image, normalized as a whole by Macenko's method to the built-in reference.
Its input is the target stained as if with other dyes: the colors of both stains are moved at random
(mil/stain_jitter.py, kind stain_matrix), their amounts are not, for a crop does not show whether it holds few
nuclei or pale ones. For the same reason the image as it was is no input: Macenko's method scales it by its
darkest percent, all of it seen. No source image is in two parts.
Those of NCT-CRC were normalized once by their authors; LYM, DEB, MUC and BACK are left out, as Macenko's
method finds no second stain there worth the name.
"""

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.core.shapes import Pixels
from wsi_kd.features.stain.normalizer import create_normalizer, fit_stains
from wsi_kd.features.stain.reference import built_in_target
from wsi_kd.mil.stain_jitter import StainJitter, change_stains, draw_changes
from wsi_kd.slides.reader import open_slide

PARTS: Final[dict[str, tuple[str, ...]]] = {
    "train": (
        "wsi/CMU-1-Small-Region.svs",
        "patches/nct-crc-samples/ADI-AAQEFMRI.tif",
        "patches/nct-crc-samples/MUS-AACVWIEK.tif",
        "patches/nct-crc-samples/NORM-AAAWMSFI.tif",
        "patches/nct-crc-samples/STR-AACRYYNQ.tif",
    ),
    "val": ("patches/nct-crc-samples/TUM-AACHEHDV.tif", "patches/histolab-fixtures/tcga-lung-rgb.png"),
    "test": (
        "patches/histolab-fixtures/high-nuclei-score-level2.png",
        "patches/histolab-fixtures/low-nuclei-score-level1.png",
        "patches/histolab-fixtures/medium-nuclei-score-level2.png",
        "patches/histolab-fixtures/tissue-level0-4302-10273-4814-10785.png",
        "patches/histolab-fixtures/tissue-level0-7352-11762-7864-12274.png",
    ),
}
JITTER: Final = StainJitter("stain_matrix", strength=0.2)
FIT_PIXELS: Final = 200_000
DARKER_THAN: Final = 215
"""Levels of a pixel that count as tissue."""
MIN_TISSUE: Final = 0.4
TRIES: Final = 200


class Pairs(NamedTuple):
    """Inputs and targets, RGB in -1 to 1."""

    inputs: Float[Tensor, "crops 3 edge edge"]
    targets: Float[Tensor, "crops 3 edge edge"]


def read_source(path: Path) -> Pixels:
    """Read a picture, or level 0 of a slide."""
    if path.suffix != ".svs":
        return np.asarray(Image.open(path).convert("RGB"))
    with open_slide(path, background="white") as reader:
        width, height = reader.level_dimensions[0]
        return reader.read_region(x_level0_px=0, y_level0_px=0, level=0, width_px=width, height_px=height)


def normalized(image: Pixels) -> Pixels:
    """Normalize a whole image to the built-in reference."""
    pixels = image.reshape(-1, 3)
    fit = fit_stains(pixels[:: max(1, len(pixels) // FIT_PIXELS)], "macenko")
    return create_normalizer("macenko", source=fit, target=built_in_target("macenko"))(image)


def draw_pairs(images: list[Pixels], *, count: int, edge: int, seed: int) -> Pairs:
    """Draw crops of tissue, as many of each image, and restain each.

    Raises:
        BadInput: an image that has no crop of this edge with tissue on it.
    """
    rng = np.random.default_rng(seed)
    shown = [normalized(image) for image in images]
    crops = [_crop(shown[number % len(shown)], edge=edge, rng=rng) for number in range(count)]
    targets = torch.from_numpy(np.stack(crops)).float()
    return Pairs(_values(restained(targets, seed=seed)), _values(targets))


def restained(levels: Float[Tensor, "crops rows columns 3"], *, seed: int) -> Tensor:
    """Change the stains of each crop; levels stay whole numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        changes = draw_changes(JITTER, len(levels), device=levels.device)
    assert changes is not None
    return change_stains(levels, changes).round()


def _crop(image: Pixels, *, edge: int, rng: np.random.Generator) -> Pixels:
    height, width = image.shape[:2]
    if min(height, width) >= edge:
        for _ in range(TRIES):
            y, x = int(rng.integers(height - edge + 1)), int(rng.integers(width - edge + 1))
            place = (slice(y, y + edge), slice(x, x + edge))
            if (image[place].min(axis=2) < DARKER_THAN).mean() >= MIN_TISSUE:
                return image[place]
    raise BadInput(f"an image of {width} x {height} px: no crop of {edge} px with tissue found")


def _values(levels: Tensor) -> Tensor:
    return (levels / 127.5 - 1.0).permute(0, 3, 1, 2).contiguous()

"""How near images come to those they should be: PSNR, SSIM, Frechet distance of features."""

import math
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

RANGE: Final = 2.0
"""Of the values, -1 to 1."""
WINDOW: Final = 11
SIGMA: Final = 1.5
LUMINANCE: Final = (0.01 * RANGE) ** 2
CONTRAST: Final = (0.03 * RANGE) ** 2
Images = Float[Tensor, "samples channels height width"]


def psnr(given: Images, wanted: Images) -> Float[Tensor, "samples"]:
    """Return 10 log10(range^2 / mean squared error) of each image, in dB; inf for equal ones.

    >>> psnr(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.2)).round(decimals=3).tolist()
    [20.0]
    """
    errors: Tensor = (given - wanted).square().flatten(1).mean(dim=1)
    return 10.0 * torch.log10(RANGE**2 / errors)


def ssim(given: Images, wanted: Images) -> Float[Tensor, "samples"]:
    """Return the structural similarity of each image, the mean over its windows and channels.

    (2 m n + c)(2 cov + d) / ((m^2 + n^2 + c)(var + var + d)) in Gaussian windows of 11 px (deviation 1.5)
    that lie inside. Wang, Bovik, Sheikh, Simoncelli: "Image quality assessment: from error visibility to
    structural similarity", IEEE Trans. Image Processing 13 (2004), equation 13.
    """
    x, y = (images.double().flatten(0, 1)[:, None] for images in (given, wanted))
    places = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    line = torch.exp(-places.square() / (2.0 * SIGMA**2))
    line = line / line.sum()

    def local(values: Tensor) -> Tensor:
        rows = torch.nn.functional.conv2d(values, line.view(1, 1, -1, 1))
        return torch.nn.functional.conv2d(rows, line.view(1, 1, 1, -1))

    mean_x, mean_y = local(x), local(y)
    variances = local(x * x) - mean_x.square() + local(y * y) - mean_y.square()
    covariance = local(x * y) - mean_x * mean_y
    alike = (2.0 * mean_x * mean_y + LUMINANCE) * (2.0 * covariance + CONTRAST)
    apart = (mean_x.square() + mean_y.square() + LUMINANCE) * (variances + CONTRAST)
    found: Tensor = (alike / apart).mean(dim=(1, 2, 3)).view(given.shape[:2]).mean(dim=1)
    return found


def frechet(first: Float[Tensor, "samples width"], second: Float[Tensor, "samples width"]) -> float:
    """Return |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2) of two sets of as many features, taken for Gaussian.

    With centered A, B of n rows tr (C1 C2)^1/2 is the sum of the singular values of A B' / (n - 1), an n x n
    matrix: cheap and exact where there are fewer samples than features. Few samples raise the distance
    (it is biased): compare only what was measured with as many of the same inputs.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"features of shape {tuple(first.shape)} and {tuple(second.shape)}: expected one shape"
        )
    a, b = first.double(), second.double()
    means = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
    a, b = a - a.mean(dim=0), b - b.mean(dim=0)
    shared = torch.linalg.svdvals(a @ b.T).sum()
    spread = (a.square().sum() + b.square().sum() - 2.0 * shared) / (len(a) - 1)
    return math.fsum([float(means), float(spread)])

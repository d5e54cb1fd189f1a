"""PSNR, SSIM and Frechet distance, against values worked out otherwise."""

import numpy as np
import pytest
import torch

from image_measures import CONTRAST, LUMINANCE, SIGMA, WINDOW, frechet, psnr, ssim
from wsi_kd.claims.energy_compression import frechet_distance


def images(samples=2, *, edge=16, seed=0):
    return torch.rand(samples, 3, edge, edge, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_psnr_is_that_of_eight_bits():
    """One level apart everywhere: 20 log10 255."""
    first = images()
    assert psnr(first, first + 2 / 255).tolist() == pytest.approx([48.1308] * 2, abs=1e-2)
    assert psnr(first, first).tolist() == [float("inf")] * 2


def test_ssim_of_flat_images_is_their_luminance_alone():
    a, b = 0.5, -0.25
    expected = (2 * a * b + LUMINANCE) / (a * a + b * b + LUMINANCE)
    flat = (torch.full((1, 3, 12, 14), value) for value in (a, b))
    assert ssim(*flat).item() == pytest.approx(expected, abs=1e-9)


def test_ssim_of_one_window_is_the_formula():
    first, second = images(1, edge=WINDOW, seed=1), images(1, edge=WINDOW, seed=2)
    line = np.exp(-((np.arange(WINDOW) - 5) ** 2) / (2 * SIGMA**2))
    weights = np.outer(line, line) / line.sum() ** 2
    found = []
    for x, y in zip(first[0].double().numpy(), second[0].double().numpy(), strict=True):
        m, n = (weights * x).sum(), (weights * y).sum()
        var_x, var_y = (weights * (x - m) ** 2).sum(), (weights * (y - n) ** 2).sum()
        covariance = (weights * (x - m) * (y - n)).sum()
        top = (2 * m * n + LUMINANCE) * (2 * covariance + CONTRAST)
        found.append(top / ((m * m + n * n + LUMINANCE) * (var_x + var_y + CONTRAST)))
    assert ssim(first, second).item() == pytest.approx(np.mean(found), abs=1e-9)


def test_ssim_is_one_for_equal_images_symmetric_and_falls_with_noise():
    first = images()
    assert ssim(first, first).tolist() == pytest.approx([1.0, 1.0])
    noise = torch.randn(first.shape, generator=torch.Generator().manual_seed(3))
    scores = [ssim(first, first + size * noise).mean().item() for size in (0.05, 0.2, 0.8)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.9
    assert scores[2] < 0.7
    torch.testing.assert_close(ssim(first, -first), ssim(-first, first))


def test_frechet_is_that_of_the_matrix_root():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(60, 5, generator=generator, dtype=torch.float64)
    second = 1.5 * torch.randn(60, 5, generator=generator, dtype=torch.float64) + 0.3
    assert frechet(first, second) == pytest.approx(frechet_distance(first, second), rel=1e-8)


def test_frechet_of_moved_and_of_stretched_features():
    points = torch.randn(40, 90, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert frechet(points, points) == pytest.approx(0.0, abs=1e-9)
    assert frechet(points, points + 0.1) == pytest.approx(0.9)  # 90 x .1^2
    variance = points.var(dim=0).sum().item()
    mean = points.mean(dim=0).square().sum().item()
    assert frechet(points, 3 * points) == pytest.approx(4 * (variance + mean))  # (3 - 1)^2 of both


def test_frechet_wants_as_many_of_each():
    with pytest.raises(ValueError, match="expected one shape"):
        frechet(torch.zeros(3, 4), torch.zeros(4, 4))

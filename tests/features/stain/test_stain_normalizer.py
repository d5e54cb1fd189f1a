import numpy as np
import pytest

from wsi_kd.features.stain.fits import ColorFit, StainFit
from wsi_kd.features.stain.normalizer import create_normalizer, fit_stains
from wsi_kd.features.stain.reference import built_in_target
from wsi_kd.features.stain.reinhard import to_lab
from wsi_kd.features.stain.vahadane import concentrations

SOURCE = StainFit(
    matrix=np.array([[0.65, 0.70, 0.29], [0.20, 0.84, 0.50]])
    / np.linalg.norm([[0.65, 0.70, 0.29], [0.20, 0.84, 0.50]], axis=1, keepdims=True),
    strength=np.array([1.5, 1.0]),
    light=np.array([240.0, 236.0, 242.0]),
)
TARGET = StainFit(
    matrix=np.array([[0.49, 0.76, 0.42], [0.10, 0.90, 0.42]])
    / np.linalg.norm([[0.49, 0.76, 0.42], [0.10, 0.90, 0.42]], axis=1, keepdims=True),
    strength=np.array([2.0, 0.8]),
    light=np.array([250.0, 250.0, 250.0]),
)
OPTICAL = ("macenko", "vahadane")


def tissue(fit, *, seed=0, edge_px=64):
    """Concentrations (edge, edge, 2) in multiples of the fit's strength, and their light, not rounded."""
    shares = np.random.default_rng(seed).uniform(0.0, 1.0, (edge_px, edge_px, 2))
    shares[: edge_px // 4, :, 0] = 0.0
    shares[edge_px // 4 : edge_px // 2, :, 1] = 0.0
    return shares, fit.light * np.exp(-(shares * fit.strength) @ fit.matrix)


def rounded(light):
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("method", OPTICAL)
def test_tissue_in_the_source_stain_looks_like_the_same_tissue_in_the_target_stain(method):
    shares, source_light = tissue(SOURCE)
    normalize = create_normalizer(method, source=SOURCE, target=TARGET)
    shown = normalize(rounded(source_light)).astype(float)
    expected = TARGET.light * np.exp(-(shares * TARGET.strength) @ TARGET.matrix)
    difference = np.abs(shown - expected)
    assert difference.mean() < 0.6  # rounding of both ends
    assert difference.max() < 4.0


@pytest.mark.parametrize("method", OPTICAL)
def test_the_formula_in_double_precision_gives_the_same_levels(method):
    pixels = np.random.default_rng(1).integers(1, 240, (40, 50, 3), dtype=np.uint8)
    density = np.log(SOURCE.light) - np.log(pixels.astype(float))
    if method == "macenko":
        amounts = density @ np.linalg.pinv(SOURCE.matrix)
    else:
        amounts = concentrations(density.reshape(-1, 3), SOURCE.matrix).reshape(40, 50, 2)
    expected = TARGET.light * np.exp(-(amounts * TARGET.strength / SOURCE.strength) @ TARGET.matrix)
    shown = create_normalizer(method, source=SOURCE, target=TARGET)(pixels)
    assert np.abs(shown - np.clip(expected, 0, 255)).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("method", OPTICAL)
def test_a_slide_that_is_the_target_already_is_left_alone(method):
    pixels = rounded(tissue(TARGET)[1])
    shown = create_normalizer(method, source=TARGET, target=TARGET)(pixels)
    assert np.abs(shown.astype(int) - pixels).max() <= 1


@pytest.mark.parametrize("method", OPTICAL)
def test_bare_glass_becomes_the_targets_glass(method):
    glass = np.tile(np.uint8(SOURCE.light), (8, 8, 1))
    shown = create_normalizer(method, source=SOURCE, target=TARGET)(glass)
    np.testing.assert_array_equal(shown, np.tile(np.uint8(TARGET.light), (8, 8, 1)))


def test_black_and_white_stay_finite_and_in_order():
    extremes = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    for method in OPTICAL:
        shown = create_normalizer(method, source=SOURCE, target=TARGET)(extremes)
        assert shown[0, 0].max() < 30
        assert shown[0, 1].min() >= 240


def test_reinhard_gives_the_targets_mean_and_deviation():
    source, target = rounded(tissue(SOURCE)[1]), rounded(tissue(TARGET, seed=9)[1])
    fits = [ColorFit(*_moments(pixels)) for pixels in (source, target)]
    shown = create_normalizer("reinhard", source=fits[0], target=fits[1])(source)
    mean, deviation = _moments(shown)
    np.testing.assert_allclose(mean, fits[1].mean, atol=0.01)
    np.testing.assert_allclose(deviation, fits[1].deviation, rtol=0.05)


def _moments(pixels):
    colors = to_lab(pixels.reshape(-1, 3))
    return colors.mean(axis=0), colors.std(axis=0)


def test_reinhard_leaves_the_target_alone():
    pixels = rounded(tissue(TARGET)[1])
    fit = ColorFit(*_moments(pixels))
    shown = create_normalizer("reinhard", source=fit, target=fit)(pixels)
    assert np.abs(shown.astype(int) - pixels).max() <= 1


@pytest.mark.parametrize(("method", "share"), [("macenko", 0.35), ("vahadane", 0.35), ("reinhard", 0.85)])
def test_two_stainings_of_one_tissue_come_together(method, share):
    """Reinhard moves colors as a whole: it cannot turn one pair of stains into another."""
    shares, first = tissue(SOURCE, edge_px=128)
    second = TARGET.light * np.exp(-(shares * TARGET.strength) @ TARGET.matrix)
    before = np.abs(first - second).mean()
    noise = np.random.default_rng(0).normal(0, 1.5, first.shape)
    shown = []
    for light in (first, second):
        pixels = rounded(light + noise)
        fit = fit_stains(pixels.reshape(-1, 3), method)
        shown.append(create_normalizer(method, source=fit, target=built_in_target(method))(pixels))
    after = np.abs(shown[0].astype(float) - shown[1]).mean()
    assert after < share * before


def test_the_built_in_target_is_one_and_has_unit_stains():
    for method in OPTICAL:
        fit = built_in_target(method)
        np.testing.assert_allclose(np.linalg.norm(fit.matrix, axis=1), 1.0, atol=1e-12)
        assert fit.matrix[0, 0] > fit.matrix[1, 0]  # hematoxylin takes red light, eosin hardly
    assert isinstance(built_in_target("reinhard"), ColorFit)

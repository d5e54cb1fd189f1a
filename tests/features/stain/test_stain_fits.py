"""Fits of stains that are known: drawn by Beer-Lambert, with and without rounding, noise, glass and pen."""

import json

import numpy as np
import pytest

from wsi_kd.demo.stains import Stain, develop
from wsi_kd.features.stain.fits import CannotFit, StainFit, as_numbers, from_numbers
from wsi_kd.features.stain.macenko import macenko_matrix, ordered
from wsi_kd.features.stain.normalizer import fit_stains, stain_strength
from wsi_kd.features.stain.pixels import glass_light, optical_density
from wsi_kd.features.stain.reinhard import reinhard_fit, to_lab
from wsi_kd.features.stain.vahadane import concentrations, vahadane_matrix

HEMATOXYLIN, EOSIN = (0.65, 0.70, 0.29), (0.20, 0.84, 0.50)
TRUE = np.array([HEMATOXYLIN, EOSIN]) / np.linalg.norm([HEMATOXYLIN, EOSIN], axis=1, keepdims=True)
GLASS = (240.0, 238.0, 241.0)


def amounts(*, pixels=20_000, pure_share=0.3, seed=0):
    """Concentrations of mixed pixels, a share of them of one stain alone."""
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(0.3, 1.5, (pixels, 2))
    kind = rng.random(pixels)
    drawn[kind < pure_share / 2, 0] = 0.0
    drawn[kind > 1 - pure_share / 2, 1] = 0.0
    return drawn


def angles(found, true):
    cosines = np.clip((found * true).sum(axis=1), -1, 1)
    return np.degrees(np.arccos(cosines))


def drawn_pixels(*, hematoxylin=1.0, eosin=1.0, noise=1.5, seed=0, edge_px=256):
    """Soft blobs of both stains through the demo's scanner, a third of the picture glass."""
    import cv2

    rng = np.random.default_rng(seed)
    layers = [rng.normal(0, 1, (edge_px, edge_px)).astype(np.float32) for _ in range(2)]
    h, e = (cv2.GaussianBlur(layer, (0, 0), 5) * 10 for layer in layers)
    h, e = (np.clip(layer, 0, 1.2).astype(np.float32) for layer in (h, e))
    h[:, : edge_px // 3] = e[:, : edge_px // 3] = 0
    stain = Stain(
        hematoxylin=tuple(np.array(HEMATOXYLIN) * 1.2),
        eosin=tuple(np.array(EOSIN) * 0.9),
        glass=GLASS,
        blur_px=0.6,
        noise=noise,
        jpeg_quality=85,
    )
    pixels = develop(h * np.float32(hematoxylin), e * np.float32(eosin), stain=stain, rng=rng)
    return pixels.reshape(-1, 3)


def test_macenko_finds_exact_stains_where_pixels_of_one_stain_exist():
    density = amounts() @ TRUE
    np.testing.assert_allclose(macenko_matrix(density), TRUE, atol=1e-9)


@pytest.mark.parametrize("strength", [0.3, 1.0, 3.0])
def test_macenko_does_not_depend_on_strength_or_order(strength):
    density = amounts(seed=3) @ TRUE * strength
    shuffled = np.random.default_rng(0).permutation(density)
    np.testing.assert_allclose(macenko_matrix(shuffled), TRUE, atol=1e-9)


def test_vahadane_finds_exact_stains_of_pixels_of_one_stain_each_from_a_wrong_start():
    rng = np.random.default_rng(1)
    pure = rng.uniform(0.3, 1.5, (4000, 1)) * np.eye(2)[rng.integers(0, 2, 4000)]
    start = ordered(TRUE @ np.array([[0.97, 0.1, 0], [-0.05, 1, 0.1], [0.05, 0, 0.9]]))
    assert angles(start, TRUE).min() > 1.5
    np.testing.assert_allclose(vahadane_matrix(pure @ TRUE, start=start), TRUE, atol=1e-6)


def test_vahadane_lowers_its_own_objective_and_keeps_rows_on_the_sphere():
    density = amounts(pixels=5000) @ TRUE
    start = ordered(np.array([[0.6, 0.7, 0.4], [0.3, 0.8, 0.5]]))

    def objective(matrix):
        c = concentrations(density, matrix, sparsity=0.1)
        return 0.5 * ((density - c @ matrix) ** 2).sum() + 0.1 * c.sum()

    values = [objective(start)]
    for rounds in (1, 5, 50):
        matrix = vahadane_matrix(density, start=start, rounds=rounds)
        np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1.0, atol=1e-12)
        values.append(objective(matrix))
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.98 * values[0]


def test_concentrations_are_the_best_not_negative_ones():
    rng = np.random.default_rng(5)
    density = rng.uniform(-0.2, 1.5, (200, 3))
    for sparsity in (0.0, 0.1):
        best = concentrations(density, TRUE, sparsity=sparsity)
        assert best.min() == 0.0  # both cases occur
        assert (best > 0).all(axis=1).any()

        def cost(c, sparsity=sparsity):
            return 0.5 * ((density - c @ TRUE) ** 2).sum(axis=1) + sparsity * c.sum(axis=1)

        for _ in range(50):
            other = np.maximum(best + rng.normal(0, 0.05, best.shape), 0.0)
            assert (cost(best) <= cost(other) + 1e-12).all()


@pytest.mark.parametrize(("method", "largest_degrees"), [("macenko", 2.5), ("vahadane", 4.0)])
def test_drawn_slides_give_their_stains_back(method, largest_degrees):
    """Measured over 20 seeds: macenko up to 1.8 degrees, vahadane up to 2.8 (without noise 0.4 and 2.6)."""
    for seed in range(3):
        found = fit_stains(drawn_pixels(seed=seed), method)
        assert angles(found.matrix, TRUE).max() < largest_degrees
        np.testing.assert_allclose(found.light, GLASS, atol=3.0)


def test_glass_and_pen_leave_the_fit_as_it_is():
    tissue = drawn_pixels()
    glass = np.tile(np.uint8(GLASS), (60_000, 1))
    pen = np.concatenate([np.tile(np.uint8(ink), (8_000, 1)) for ink in ((40, 120, 70), (45, 60, 170))])
    alone = fit_stains(tissue, "macenko")
    soiled = fit_stains(np.concatenate([tissue, glass, pen]), "macenko")
    assert angles(soiled.matrix, alone.matrix).max() < 0.2
    np.testing.assert_allclose(soiled.strength, alone.strength, rtol=0.01)
    colors = fit_stains(np.concatenate([tissue, glass, pen]), "reinhard")
    np.testing.assert_allclose(colors.mean, fit_stains(tissue, "reinhard").mean, atol=0.02)


@pytest.mark.parametrize("layers", [{"hematoxylin": 0.0}, {"eosin": 0.0}])
@pytest.mark.parametrize("method", ["macenko", "vahadane"])
def test_one_stain_alone_is_refused(layers, method):
    with pytest.raises(CannotFit, match="one stain alone"):
        fit_stains(drawn_pixels(**layers), method)


def test_a_sample_without_tissue_is_refused_with_its_count():
    with pytest.raises(CannotFit, match="0 stained pixels in 5000, 1000 needed"):
        fit_stains(np.full((5000, 3), 240, np.uint8), "macenko")


def test_pixels_of_one_color_are_refused():
    with pytest.raises(CannotFit, match="one color alone"):
        reinhard_fit(np.full((2000, 3), 100, np.uint8))


def test_light_is_that_of_the_brightest_pixels_unless_they_are_colored():
    pixels = np.concatenate(
        [np.tile(np.uint8([230, 228, 231]), (100, 1)), np.tile(np.uint8([150, 80, 130]), (900, 1))]
    )
    np.testing.assert_array_equal(glass_light(pixels), [230, 228, 231])
    np.testing.assert_array_equal(glass_light(pixels[100:]), [255, 255, 255])


def test_optical_density_by_hand():
    density = optical_density(np.uint8([[240, 120, 0]]), light=np.array([240.0, 240.0, 240.0]))
    np.testing.assert_allclose(density, [[0.0, np.log(2), np.log(240)]], atol=1e-12)


def test_gray_has_alpha_and_beta_near_zero():
    """Equation 4's rows sum to nearly one, so that equal levels are nearly achromatic."""
    gray = to_lab(np.uint8([[0, 0, 0], [128, 128, 128], [254, 254, 254]]))
    np.testing.assert_allclose(gray[:, 1:], 0.0, atol=0.005)
    np.testing.assert_allclose(gray[:, 0], np.sqrt(3) * np.log([1, 129, 255]), atol=0.005)


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_a_fit_survives_json_bit_for_bit(method):
    fit = fit_stains(drawn_pixels(), method)
    again = from_numbers(json.loads(json.dumps(as_numbers(fit))))
    assert type(again) is type(fit)
    for name, value in fit._asdict().items():
        np.testing.assert_array_equal(getattr(again, name), value)


def test_strength_is_the_99th_percentile_and_a_stain_that_is_hardly_there_is_refused():
    amounts = np.stack([np.arange(101) / 100, np.arange(101) / 50], axis=1)
    np.testing.assert_allclose(stain_strength(amounts), [0.99, 1.98])
    with pytest.raises(CannotFit, match=r"reaches 0\.05 only"):
        stain_strength(amounts * [1.0, 0.025 / 0.99])


def test_stains_are_told_apart_by_red():
    np.testing.assert_array_equal(ordered(TRUE[::-1]), TRUE)
    with pytest.raises(CannotFit, match=r"0\.0 degrees apart"):
        ordered(TRUE[[0, 0]])
    assert isinstance(fit_stains(drawn_pixels(), "macenko"), StainFit)

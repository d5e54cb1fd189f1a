import numpy as np
import pytest

from wsi_kd.tissue.optical_density import WHITE, density_color, measure_light, middle_levels

GLASS = (240, 238, 244)
STAINS = {"hematoxylin": (0.65, 0.70, 0.29), "eosin": (0.07, 0.99, 0.11), "dab": (0.27, 0.57, 0.78)}


def dyed(*amounts, stain, glass=GLASS):
    """One row of pixels, each with that much of a stain, before the camera rounds."""
    light = np.float64(glass) * np.exp(-np.outer(amounts, stain))
    return np.round(light)[None].astype(np.uint8)


def test_density_and_chromaticity_of_a_pixel_by_hand():
    """d = ln(I0 / I) is (ln 4, ln 2, 0): D = ln 2, c_x = 4/3 ln 2 ... = 1, c_y = ln 2 / (sqrt 3 ln 2)."""
    found = density_color(np.array([[[60, 120, 240]]], np.uint8), glass=(240, 240, 240))
    assert found.density[0, 0] == pytest.approx(np.log(2), rel=1e-6)
    assert found.c_x[0, 0] == pytest.approx(1.0, rel=1e-5)
    assert found.c_y[0, 0] == pytest.approx(1 / np.sqrt(3), rel=1e-5)


@pytest.mark.parametrize("name", STAINS)
def test_color_does_not_depend_on_the_strength_of_a_stain(name):
    found = density_color(dyed(0.4, 0.8, 1.6, stain=STAINS[name]), glass=GLASS)
    assert found.density[0, 2] / found.density[0, 1] == pytest.approx(2, rel=0.03)
    for plane in (found.c_x, found.c_y):
        assert np.ptp(plane) < 0.06


def test_glass_and_what_is_brighter_has_no_density():
    found = density_color(np.array([[GLASS, WHITE, (0, 0, 0)]], np.uint8), glass=GLASS)
    assert found.density[0, :2].tolist() == [0, 0]
    assert found.density[0, 2] == pytest.approx(np.log(240 * 238 * 244) / 3, rel=1e-6)
    assert np.isfinite([plane for plane in found]).all()


def test_the_glass_is_the_bright_uncolored_part():
    pixels = np.full((100, 100, 3), GLASS, np.uint8)
    pixels[:60] = (200, 120, 170)
    pixels[60:64] = 10
    assert measure_light(pixels).glass == GLASS


@pytest.mark.parametrize("level", [(200, 120, 170), (5, 8, 4)])
def test_without_glass_in_sight_it_is_white(level):
    assert measure_light(np.full((50, 50, 3), level, np.uint8)).glass == WHITE


@pytest.mark.parametrize(
    ("levels", "middle"), [([7], (7, 7)), ([3, 9], (3, 9)), ([3, 9, 9], (9, 9)), ([0, 0, 5, 255], (0, 5))]
)
def test_the_middle_of_counted_levels_by_hand(levels, middle):
    assert middle_levels(np.bincount(levels, minlength=256)) == middle


def test_the_glass_between_two_levels_is_their_mean():
    pixels = np.full((4, 2, 3), 240, np.uint8)
    pixels[2:] = 244
    assert measure_light(pixels).glass == (242, 242, 242)


def test_the_light_is_the_median_of_luminance():
    """Gray levels 10, 20, 250 and 250: the middle ones are 20 and 250."""
    pixels = np.array([[10, 20], [250, 250]], np.uint8)[..., None].repeat(3, axis=2)
    assert measure_light(pixels).luminance == pytest.approx((20 + 250) / 2 / 255)

import numpy as np
import pytest

from wsi_kd.demo.defects import INKS, blur_area, draw_bubble, draw_fold, draw_pen

GLASS = (240.0, 240.0, 240.0)


def plain(level=180, shape=(120, 160)):
    return np.full((*shape, 3), level, np.uint8)


@pytest.mark.parametrize("ink", INKS)
def test_ink_absorbs_on_top_of_what_is_there(ink):
    stroke = {"ink": ink, "width_px": 30.0, "edge_px": 0.1}
    lines = [
        draw_pen(plain(level), ((0, 60), (160, 60)), rng=np.random.default_rng(0), **stroke)
        for level in (240, 120)
    ]
    on_glass, on_tissue = (drawn.pixels[60].astype(float) for drawn in lines)
    assert np.abs(on_glass / 2 - on_tissue).max() <= 1.01  # half the light falls in, half comes out
    density = np.log(240 / np.maximum(on_glass, 1)).mean(axis=0)
    assert np.corrcoef(density, INKS[ink])[0, 1] > 0.99 or ink == "black"
    assert (lines[0].pixels[:30] == 240).all()
    assert lines[0].where.sum() == pytest.approx(30 * 160, rel=0.1)


def test_a_fold_doubles_the_density_of_even_tissue():
    drawn = draw_fold(plain(120), ((20, 60), (140, 60)), width_px=10.0, glass=GLASS)
    assert (drawn.pixels[60, 40:120] == 60).all()  # 240 x (120 / 240)^2
    assert (drawn.pixels[~drawn.where] == 120).all()
    glass = draw_fold(plain(240), ((20, 60), (140, 60)), width_px=10.0, glass=GLASS, layers=3.0)
    assert (glass.pixels == 240).all()


def test_blur_stays_in_its_disk():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (120, 160, 3)).astype(np.uint8)
    drawn = blur_area(noise, center=(80.0, 60.0), radius_px=30.0, sigma_px=3.0)
    assert drawn.where.sum() == pytest.approx(np.pi * 30**2, rel=0.02)
    assert drawn.pixels[50:70, 70:90].std() < 0.2 * noise.std()
    assert np.array_equal(drawn.pixels[:20], noise[:20])


def test_a_bubble_has_a_dark_ring():
    drawn = draw_bubble(plain(), center=(80.0, 60.0), radius_px=40.0, sigma_px=2.0)
    assert drawn.pixels[60, 120, 0] == pytest.approx(45, abs=3)
    assert drawn.pixels[60, 80, 0] == 180
    assert (drawn.pixels[0, 0] == 180).all()

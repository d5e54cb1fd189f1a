"""Beer-Lambert by hand, and what varies between slides."""

import numpy as np
import pytest

from wsi_kd.demo.stains import Stain, develop, draw_stain

PLAIN = Stain(
    hematoxylin=(0.8, 0.9, 0.4),
    eosin=(0.1, 0.9, 0.5),
    glass=(240.0, 230.0, 250.0),
    blur_px=0.7,
    noise=0.0,
    jpeg_quality=80,
)


def flat(value, height=300, width=40):
    return np.full((height, width), value, np.float32)


def test_light_falls_exponentially_with_both_stains():
    pixels = develop(flat(0.5), flat(0.4), stain=PLAIN, rng=np.random.default_rng(0))
    # red: 240 exp(-(0.5 * 0.8 + 0.4 * 0.1)) = 154.57; green: 230 exp(-0.81) = 102.32
    # blue: 250 exp(-0.4) = 167.58
    assert pixels.reshape(-1, 3).min(axis=0).tolist() == [155, 102, 168]
    assert pixels.reshape(-1, 3).max(axis=0).tolist() == [155, 102, 168]


def test_glass_without_stain_is_the_light_source():
    pixels = develop(flat(0), flat(0), stain=PLAIN, rng=np.random.default_rng(0))
    assert (pixels == [240, 230, 250]).all()


def test_noise_has_the_stated_spread_and_no_bias():
    stain = PLAIN._replace(noise=2.0, glass=(128.0, 128.0, 128.0))
    pixels = develop(flat(0, 600, 400), flat(0, 600, 400), stain=stain, rng=np.random.default_rng(1))
    assert pixels.mean() == pytest.approx(128, abs=0.05)
    assert pixels.std() == pytest.approx(np.sqrt(2.0**2 + 1 / 12), abs=0.05)


def test_color_varies_more_within_a_site_than_between_sites():
    eosin = np.array(
        [[draw_stain(np.random.default_rng((s, i)), site=s).eosin[1] for i in range(200)] for s in (0, 1)]
    )
    within, between = eosin.std(axis=1).mean(), abs(eosin[0].mean() - eosin[1].mean())
    assert within > 0.12
    assert between < within / 2

"""OpenSlide's pixels turned directly, against the way through openslide-python and Pillow."""

import numpy as np
import pytest
from openslide import OpenSlide, _convert

from wsi_kd.slides.composite import composite
from wsi_kd.slides.premultiplied import on_background, read_premultiplied


def test_every_alpha_and_color_gives_what_openslide_python_gives():
    alpha = np.repeat(np.arange(256), 256)
    stored = np.minimum(np.tile(np.arange(256), 256), alpha)
    words = np.stack([stored, stored[::-1] * 0, stored // 2, alpha], axis=-1).astype(np.uint8)
    bgra = np.ascontiguousarray(words.reshape(256, 256, 4))
    straight = bgra.copy()
    _convert.argb2rgba(straight.view("<u4"))
    for background in ((255, 255, 255), (0, 0, 0), (241, 233, 228)):
        assert np.array_equal(on_background(bgra, background), composite(straight, background))


def test_opaque_pixels_only_change_the_order_of_their_channels():
    bgra = np.array([[[1, 2, 3, 255], [250, 0, 7, 255]]], np.uint8)
    assert on_background(bgra, (0, 0, 0)).tolist() == [[[3, 2, 1], [7, 0, 250]]]


@pytest.mark.parametrize("kind", ["tumor", "transparent", "bounds"])
def test_regions_of_slides_are_the_same_by_both_ways(synthetic_slide, kind):
    slide = synthetic_slide(kind)
    x, y = (origin + 300 for origin in slide.origin)
    with OpenSlide(slide.path) as opened:
        for corner in ((x, y), (x + 101, y + 51), (x - 500, y - 500)):
            for level in range(opened.level_count):
                direct = read_premultiplied(opened, corner, level, size=(260, 130))
                image = np.asarray(opened.read_region(corner, level, (260, 130)))
                assert np.array_equal(
                    on_background(direct, (241, 233, 228)), composite(image, (241, 233, 228))
                )

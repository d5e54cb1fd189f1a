import numpy as np
import pytest
from array_slides import ArraySlide, shrink

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.core.units import Box
from wsi_kd.slides import overview as overviews
from wsi_kd.slides import pyramid
from wsi_kd.slides.openslide_reader import OpenSlideReader
from wsi_kd.slides.overview import open_overview
from wsi_kd.slides.pyramid import read_thumbnail
from wsi_kd.slides.reader import open_slide


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).integers(0, 256, (700, 500, 3), np.uint8)


@pytest.fixture(autouse=True)
def bands_of_few_rows(monkeypatch):
    monkeypatch.setattr(overviews, "SMALL_PX", 0)
    monkeypatch.setattr(overviews, "BAND_ROWS", 40)
    monkeypatch.setattr(overviews, "SHRUNK_ROWS", 7)


def looked(slide, mpp, **options):
    return open_overview(slide, slide_mpp=0.5, overview_mpp=mpp, **options)


@pytest.mark.parametrize(
    "ratio", [1.0, 1.0004, 1.31, 1.9963, 2.0, 2.37, 3.0, 7.6], ids=lambda ratio: f"x{ratio:g}"
)
@pytest.mark.parametrize("bounds", [None, Box(31, 52, 420, 611)])
def test_rows_are_those_of_the_thumbnail(noise, ratio, bounds, monkeypatch):
    """Beyond one level of 255 nothing differs: rounding of means, once here and up to twice there.

    Where reading is dear both average in two steps; pixels half outside of the bounds are left alone.
    """
    if ratio > overviews.DEAR_SCALE:
        monkeypatch.setattr(pyramid, "BLOCK_PX", 64)
    slide = ArraySlide(noise, bounds=bounds)
    whole = read_thumbnail(slide, slide_mpp=0.5, thumbnail_mpp=0.5 * ratio)
    found = looked(slide, 0.5 * ratio)
    assert (found.level0_px_per_px, found.origin) == (whole.level0_px_per_px, whole.origin)
    length_px = np.array(slide.bounds[:1:-1])
    assert found.pixels.shape[:2] == tuple(np.round(length_px / ratio).astype(int))
    rows, columns = (length_px // ratio).astype(int)
    off = found.pixels[0:rows][:, :columns].astype(int) - whole.pixels[:rows, :columns]
    assert np.abs(off).max() <= (0 if ratio == 1 else 1)
    assert abs(off.mean()) < 0.01
    assert np.array_equal(found.pixels[33:71], found.pixels[0:rows][33:71])


@pytest.mark.parametrize("stored", [0.9996, 1.0004])
def test_a_level_of_nearly_the_resolution_does_not_drift(stored):
    """Of a ramp the last pixel is where its place says, though as many pixels are read as are wanted."""
    ramp = np.broadcast_to((np.arange(1_000) / 4)[:, None, None], (1_000, 900, 3)).astype(np.uint8)
    slide = ArraySlide(ramp)
    slide.level_downsamples = (1 / stored,)
    found = looked(slide, 0.5).pixels
    middles = (np.arange(900) + 0.5) * stored
    assert np.abs(found[0:900][:, 450, 0] - (middles / 4 - 0.5)).max() <= 1


def test_few_rows_are_held_and_the_others_read_again(noise, monkeypatch):
    monkeypatch.setattr(overviews, "HELD_PX", 90 * 500)
    slide = ArraySlide(noise)
    found = looked(slide, 0.5).pixels
    for _ in range(2):
        for top in range(0, 700, 20):
            assert np.array_equal(found[top : top + 25], noise[top : top + 25])
    assert [rows for _, _, rows in slide.requests] == [40] * 17 + [20] + [40] * 15 + [20]


def test_where_reading_is_dear_all_is_held(noise, monkeypatch):
    monkeypatch.setattr(overviews, "HELD_PX", 1)
    slide = ArraySlide(noise)
    found = looked(slide, 2.0).pixels
    for _ in range(2):
        assert np.array_equal(found[0:175], shrink(noise, 4))
    assert sum(rows for _, _, rows in slide.requests) == 700


def test_a_small_slide_is_read_at_once(noise, monkeypatch):
    monkeypatch.setattr(overviews, "SMALL_PX", 10**6)
    slide = ArraySlide(noise)
    found = looked(slide, 4.0)
    assert np.array_equal(found.pixels, read_thumbnail(slide, slide_mpp=0.5, thumbnail_mpp=4.0).pixels)


def test_colors_are_changed_band_by_band(noise, monkeypatch):
    monkeypatch.setattr(overviews, "recolor", lambda reader, color: lambda pixels: 255 - pixels)
    found = looked(ArraySlide(noise), 0.5, color="srgb")
    assert np.array_equal(found.pixels[30:90], 255 - noise[30:90])


def test_what_a_reader_raises_later_is_unreadable(noise):
    slide = ArraySlide(noise)
    found = looked(slide, 0.5)
    found.pixels[0:10]
    slide.levels = []
    with pytest.raises(
        SlideProblem, match=r"reading failed \(IndexError: .*export the slide again"
    ) as problem:
        found.pixels[300:310]
    assert problem.value.status == SlideStatus.UNREADABLE


def test_openslide_keeps_few_decoded_tiles_of_a_large_overview(synthetic_slide, monkeypatch):
    bounded = []
    real = OpenSlideReader.bound_cache
    monkeypatch.setattr(
        OpenSlideReader, "bound_cache", lambda reader, most: bounded.append(most) or real(reader, most)
    )
    with open_slide(synthetic_slide("normal").path, background="metadata") as reader:
        whole = read_thumbnail(reader, slide_mpp=0.5, thumbnail_mpp=1.0).pixels
        found = looked(reader, 1.0).pixels
        assert np.array_equal(found[0 : len(whole)], whole)
    assert bounded == [overviews.DECODED_BYTES]

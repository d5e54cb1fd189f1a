import numpy as np
import pytest
from array_slides import ArraySlide, shrink

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.core.units import Box
from wsi_kd.slides import pyramid
from wsi_kd.slides.pyramid import plan_read, read_thumbnail, read_tile


def area_mean(pixels, scale, size):
    """Mean over each target pixel's exact, fractional footprint: the definition, pixel by pixel."""

    def weights(length):
        edges = np.arange(size + 1) * scale
        starts, ends = edges[:-1, None], edges[1:, None]
        cells = np.arange(length)[None]
        return np.clip(np.minimum(ends, cells + 1) - np.maximum(starts, cells), 0, None) / scale

    rows, columns = weights(pixels.shape[0]), weights(pixels.shape[1])
    return np.einsum("ij,jkc->ikc", rows, np.einsum("jkc,lk->jlc", pixels.astype(float), columns))


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)


def plan(downsamples, *, slide_mpp, tile_mpp=0.5, tile_px=64, mpp_tolerance=0.05):
    return plan_read(
        downsamples, slide_mpp=slide_mpp, tile_mpp=tile_mpp, tile_px=tile_px, mpp_tolerance=mpp_tolerance
    )


@pytest.mark.parametrize(
    ("slide_mpp", "level", "read_px", "tile_level0_px"),
    [
        (0.5, 0, 64, 64.0),
        (0.25, 0, 128, 128.0),  # the 4x level would be coarser than asked for
        (0.125, 1, 64, 256.0),
        (0.1249, 1, 65, 64 * 0.5 / 0.1249),
        (0.12, 1, 67, 64 * 0.5 / 0.12),
        (0.03, 2, 67, 64 * 0.5 / 0.03),
        (0.3, 0, 107, 64 * 0.5 / 0.3),  # 0.30 and 0.59 um/px are not one "20x"
    ],
)
def test_the_nearest_finer_level_is_read(slide_mpp, level, read_px, tile_level0_px):
    found = plan((1.0, 4.0, 16.0), slide_mpp=slide_mpp)
    assert (found.level, found.read_px) == (level, read_px)
    assert found.tile_level0_px == pytest.approx(tile_level0_px, rel=1e-12)
    downsample = (1.0, 4.0, 16.0)[level]
    assert found.footprint_px * downsample * slide_mpp == pytest.approx(64 * 0.5, rel=1e-12)


def test_a_level_that_rounds_its_size_still_counts():
    assert plan((1.0, 4.0036), slide_mpp=0.125).level == 1
    assert plan((1.0, 4.1), slide_mpp=0.125).level == 0


def test_too_coarse_only_beyond_the_tolerance():
    assert plan((1.0,), slide_mpp=0.525).read_px == 61
    with pytest.raises(SlideProblem, match=r"scanned at 0\.5255") as problem:
        plan((1.0,), slide_mpp=0.5255)
    assert problem.value.status == SlideStatus.TOO_COARSE


@pytest.mark.parametrize("slide_mpp", [0.5, 0.499, 0.3, 0.21, 0.13])
def test_a_tile_is_the_mean_over_exact_footprints(noise, slide_mpp):
    slide = ArraySlide(noise, downsamples=(1, 4))
    tile_plan = plan(slide.level_downsamples, slide_mpp=slide_mpp)
    tile = read_tile(slide, x_level0_px=40, y_level0_px=80, plan=tile_plan)
    source = noise[80 : 80 + tile_plan.read_px, 40 : 40 + tile_plan.read_px]
    expected = area_mean(source, 0.5 / slide_mpp, 64)
    assert tile.shape == (64, 64, 3)
    assert tile.flags.c_contiguous
    assert np.abs(tile - expected).max() <= 0.51


def test_a_slightly_coarse_slide_is_enlarged_by_the_exact_factor():
    ramp = np.broadcast_to(np.arange(250, dtype=np.uint8)[None, :, None], (250, 250, 3)).copy()
    enlarge = plan((1.0,), slide_mpp=0.52, tile_px=200)
    tile = read_tile(ArraySlide(ramp), x_level0_px=0, y_level0_px=0, plan=enlarge)
    assert tile.shape == (200, 200, 3)
    centers = (np.arange(200) + 0.5) * 0.5 / 0.52 - 0.5  # where each pixel's center lies in the source
    off = tile[100, 1:-1, 0].astype(float) - centers[1:-1]
    assert np.abs(off).max() < 0.75
    assert abs(off[-50:].mean()) < 0.2  # by whole sizes (193 / 200) it would be 0.6


def test_a_large_read_in_blocks_equals_one_read(noise, monkeypatch):
    slide = ArraySlide(noise)
    whole = read_thumbnail(slide, slide_mpp=0.5, thumbnail_mpp=2.0)
    monkeypatch.setattr(pyramid, "BLOCK_PX", 100)
    blocks = read_thumbnail(slide, slide_mpp=0.5, thumbnail_mpp=2.0)
    assert np.abs(whole.pixels.astype(int) - blocks.pixels).max() <= 1
    assert max(max(request[1:]) for request in slide.requests[1:]) <= 100


def test_a_thumbnail_shows_the_bounds_only_at_the_asked_resolution(noise):
    slide = ArraySlide(noise, downsamples=(1, 2), bounds=Box(100, 200, 320, 240))
    thumbnail = read_thumbnail(slide, slide_mpp=0.5, thumbnail_mpp=2.0)
    assert thumbnail.origin == (100, 200)
    assert thumbnail.level0_px_per_px == 4.0
    expected = shrink(noise[200:440, 100:420], 4)
    assert thumbnail.pixels.shape == (60, 80, 3)
    assert np.abs(thumbnail.pixels.astype(int) - expected).max() <= 1


def test_a_thumbnail_is_never_finer_than_level_0(noise):
    thumbnail = read_thumbnail(ArraySlide(noise), slide_mpp=0.5, thumbnail_mpp=0.1)
    assert thumbnail.level0_px_per_px == 1.0
    assert np.array_equal(thumbnail.pixels, noise)


def test_a_tiny_slide_gives_one_pixel():
    slide = ArraySlide(np.full((16, 16, 3), 200, np.uint8))
    thumbnail = read_thumbnail(slide, slide_mpp=0.5, thumbnail_mpp=80.0)
    assert thumbnail.pixels.shape == (1, 1, 3)
    assert thumbnail.pixels[0, 0].tolist() == [200, 200, 200]


def test_a_thumbnail_is_bounded_whatever_the_size(noise, monkeypatch):
    monkeypatch.setattr(pyramid, "MAX_THUMBNAIL_PX", 10_000)
    thumbnail = read_thumbnail(ArraySlide(noise), slide_mpp=0.5, thumbnail_mpp=0.5)
    assert thumbnail.pixels.shape[0] * thumbnail.pixels.shape[1] <= 10_200
    assert thumbnail.level0_px_per_px == pytest.approx((900 * 700 / 10_000) ** 0.5)


def test_a_header_that_declares_endless_pixels_is_refused_before_reading(noise):
    slide = ArraySlide(noise, bounds=Box(0, 0, 2**31, 2**31))
    with pytest.raises(SlideProblem, match="no level coarse enough") as problem:
        read_thumbnail(slide, slide_mpp=0.5, thumbnail_mpp=8.0)
    assert problem.value.status == SlideStatus.UNREADABLE
    assert slide.requests == []

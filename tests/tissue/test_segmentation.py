import cv2
import numpy as np
import pytest

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.settings.slides import MaskSettings
from wsi_kd.tissue import segmentation
from wsi_kd.tissue import strips as cut
from wsi_kd.tissue.bit_mask import BitMask
from wsi_kd.tissue.segmentation import (
    SaturationCounts,
    refuse_dark_field,
    saturation_threshold,
    segment_tissue,
)

DEFAULTS = {
    name: getattr(MaskSettings(), name)
    for name in (
        "min_tissue_um2",
        "min_hole_um2",
        "close_um",
        "min_saturation",
        "min_texture",
    )
}
GLASS, STAIN = 242, (214, 150, 190)


def segment(pixels, *, mpp=8.0, **changed):
    return segment_tissue(pixels, mpp=mpp, **{**DEFAULTS, **changed}).whole()


def paint(tissue, *, stain=STAIN, grain=12.0, seed=0):
    """Glass with a little sensor noise and, where `tissue` is, a grainy stain."""
    rng = np.random.default_rng(seed)
    pixels = np.full((*tissue.shape, 3), GLASS, np.float32) + rng.normal(0, 0.8, (*tissue.shape, 1))
    grainy = np.float32(stain) + rng.normal(0, grain, (*tissue.shape, 1))
    return np.clip(np.where(tissue[..., None], grainy, pixels), 0, 255).astype(np.uint8)


def disk(shape=(200, 240), center=(120, 100), radius=60):
    rows, columns = np.indices(shape)
    return (columns - center[0]) ** 2 + (rows - center[1]) ** 2 <= radius**2


def overlap(found, truth):
    return (found & truth).sum() / (found | truth).sum()


@pytest.mark.parametrize("stain", [STAIN, (235, 205, 222), (205, 215, 232), (196, 160, 120)])
def test_tissue_is_found_whatever_its_stain(stain):
    tissue = disk()
    assert overlap(segment(paint(tissue, stain=stain)), tissue) > 0.95


def test_pale_tissue_beside_a_strong_stain_is_kept():
    strong, pale = disk(center=(60, 100), radius=45), disk(center=(180, 100), radius=45)
    pixels = np.where(
        strong[..., None], paint(strong, stain=(150, 60, 140)), paint(pale, stain=(232, 205, 222))
    )
    found = segment(pixels)
    assert overlap(found, strong | pale) > 0.93


@pytest.mark.parametrize("level", [242, 255, 200])
def test_plain_glass_is_empty(level):
    with pytest.raises(SlideProblem, match="no tissue") as problem:
        segment(np.full((100, 100, 3), level, np.uint8))
    assert problem.value.status == SlideStatus.EMPTY


def test_noisy_glass_is_empty():
    with pytest.raises(SlideProblem, match="no tissue"):
        segment(paint(np.zeros((150, 150), bool)))


def test_gray_dirt_and_smooth_tint_are_no_tissue():
    with pytest.raises(SlideProblem, match="no tissue"):
        segment(paint(disk(), stain=(150, 150, 150), grain=25.0))
    tint = np.full((200, 240, 3), GLASS, np.uint8)
    tint[disk()] = (180, 220, 190)
    with pytest.raises(SlideProblem, match="no tissue"):
        segment(cv2.GaussianBlur(tint, (0, 0), 25))


def test_dark_field_is_empty_with_the_luminance():
    with pytest.raises(SlideProblem, match=r"dark field: median luminance 0\.02") as problem:
        refuse_dark_field(4 / 255, dark_field_luminance=0.25)
    assert problem.value.status == SlideStatus.EMPTY
    refuse_dark_field(0.25, dark_field_luminance=0.25)


def test_an_overview_full_of_tissue_is_not_cut_in_two():
    rng = np.random.default_rng(1)
    blobs = cv2.GaussianBlur(rng.normal(0, 1, (200, 240)).astype(np.float32), (0, 0), 4) > 0
    everywhere = np.ones((200, 240), bool)
    pixels = np.where(
        blobs[..., None],
        paint(everywhere, stain=(150, 70, 140), grain=15),
        paint(everywhere, stain=(235, 205, 222), grain=15),
    )
    assert segment(pixels).mean() > 0.98


def threshold(saturation, texture, *, min_saturation, min_texture):
    """The threshold of pixels with these saturations and textures."""
    values, place = np.unique(np.float32(saturation), return_inverse=True)
    pixels, rough = (
        np.bincount(place.ravel()[which], minlength=len(values))
        for which in (slice(None), texture.ravel() >= 2 * min_texture)
    )
    return saturation_threshold(SaturationCounts(values, pixels, rough), min_saturation=min_saturation)


def test_threshold_lies_just_above_the_glass():
    rng = np.random.default_rng(0)
    smooth = np.zeros((200, 200), np.float32)
    stained = np.where(np.arange(200) < 100, 0.05, 0.5)
    saturation = np.clip(stained + rng.normal(0, 0.005, (200, 200)), 0, 1).astype(np.float32)
    found = threshold(saturation, smooth, min_saturation=0.04, min_texture=0.008)
    assert found == pytest.approx(0.05 + 6 * 0.005, abs=0.003)
    assert threshold(saturation, smooth, min_saturation=0.3, min_texture=0.008) == 0.3
    ramp = np.linspace(0, 0.5, 10_000, dtype=np.float32).reshape(
        100, 100
    )  # no glass to speak of: halfway to Otsu
    found = threshold(ramp, smooth[:100, :100], min_saturation=0.04, min_texture=0.008)
    assert found == pytest.approx((0.125 + 0.25) / 2, abs=0.005)
    textured = np.full_like(ramp, 0.016)
    assert threshold(ramp, textured, min_saturation=0.04, min_texture=0.008) == 0.04


@pytest.mark.parametrize("seed", range(5))
def test_otsu_cuts_where_opencv_does(seed):
    rng = np.random.default_rng(seed)
    levels = np.clip(rng.normal(60, 12, 4_000).tolist() + rng.normal(140, 30, 900).tolist(), 0, 255)
    levels = levels.astype(np.uint8)
    expected = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0]
    counts = np.bincount(levels, minlength=256)
    values = np.arange(256, dtype=np.float32) / np.float32(255)
    assert segmentation._otsu_cut(SaturationCounts(values, counts, 0 * counts)) == expected


def test_the_median_of_counted_values_is_that_of_the_values():
    rng = np.random.default_rng(0)
    values = rng.permutation(np.arange(40, dtype=np.float32))
    for total in (2, 3, 400, 401):
        pixels = np.bincount(rng.integers(0, 40, total), minlength=40)
        assert segmentation._median(values, pixels) == np.median(np.repeat(values, pixels))


def test_pixels_left_out_have_no_say_in_the_threshold():
    """Half of the overview is pen: most of it saturated, which would raise Otsu's cut."""
    tissue = paint(disk())
    ink = np.random.default_rng(0).integers(0, 256, tissue.shape, np.uint8)
    both, where = np.concatenate([tissue, ink]), np.zeros((400, 240), bool)
    where[:195] = True  # what is smoothed over the border counts on neither side
    alone = np.zeros(tissue.shape[:2], bool)
    alone[:195] = True
    found, expected = (
        segmentation._look(pixels, BitMask.of(seen), min_texture=0.008).counts
        for pixels, seen in ((both, where), (tissue, alone))
    )
    assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
    assert expected.pixels.sum() == 195 * 240


@pytest.mark.parametrize("rows", [1, 2, 37])
def test_texture_and_saturation_are_the_same_in_strips(rows, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (75, 61, 3), np.uint8)
    everywhere = BitMask.of(np.ones((75, 61), bool))

    def looked():
        counts, textured = segmentation._look(pixels, everywhere, min_texture=0.19)
        return [*counts, textured.whole(), segmentation._colored(pixels, everywhere, 0.6).whole()]

    whole = looked()
    monkeypatch.setattr(cut, "STRIP_PX", rows * 61)
    assert all(np.array_equal(*pair) for pair in zip(looked(), whole, strict=True))
    assert 0.1 < whole[3].mean() < 0.9


def test_saturation_and_texture_are_those_of_their_formulas():
    pixels = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (50, 40, 3), np.uint8), (0, 0), 2)
    red, green, blue = cv2.split(np.float64(cv2.GaussianBlur(pixels, (3, 3), 0)))
    value, least = (edge.reduce([red, green, blue]) / 255 for edge in (np.maximum, np.minimum))
    expected = (value - least) / np.maximum(value, segmentation.MIN_VALUE)
    found = segmentation._SATURATIONS[segmentation._chroma(pixels)]
    assert found == pytest.approx(expected, abs=1e-6)
    luminance = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) / 255
    mean, squares = cv2.blur(luminance, (5, 5)), cv2.blur(luminance**2, (5, 5))
    assert segmentation._texture(pixels) / (25 * 255) ** 2 == pytest.approx(squares - mean**2, abs=1e-9)


def test_sizes_are_in_um():
    tissue = disk(radius=40) & ~disk(radius=10)
    pixels = paint(tissue)
    assert not segment(pixels, min_hole_um2=0.0, close_um=0.0)[100, 120]
    hole_um2 = np.pi * 10**2 * 8.0**2
    assert segment(pixels, min_hole_um2=1.4 * hole_um2, close_um=0.0)[100, 120]
    piece_um2 = np.pi * 40**2 * 8.0**2
    with pytest.raises(SlideProblem, match="no piece reaches"):
        segment(pixels, min_tissue_um2=1.3 * piece_um2)
    assert segment(pixels, min_tissue_um2=0.7 * piece_um2).any()
    with pytest.raises(SlideProblem):  # a quarter of the area at half the um/px
        segment(pixels, mpp=4.0, min_tissue_um2=0.7 * piece_um2)


def test_glass_at_the_border_is_no_hole():
    tissue = np.ones((80, 80), bool)
    tissue[:8, :8] = False
    found = segment(paint(tissue), close_um=0.0, min_hole_um2=1e9)
    assert not found[:4, :4].any()
    assert found[20:, 20:].all()


def test_one_pixel_is_empty():
    with pytest.raises(SlideProblem, match="no tissue"):
        segment(np.full((1, 1, 3), 240, np.uint8))


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("high-nuclei-score-level2", 0.10, 0.18),
        ("medium-nuclei-score-level2", 0.70, 0.85),
        ("diagnostic-slide-thumb-rgb", 0.60, 0.80),
        ("wsi-blue-pen", 0.30, 0.50),
    ],
)
def test_real_thumbnails(shared_data, name, low, high):
    path = shared_data / "patches/histolab-fixtures" / f"{name}.png"
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert low < segment(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).mean() < high


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["almost-white-1", "almost-white-ihc", "no-tissue"])
def test_real_glass_is_empty(shared_data, name):
    image = cv2.imread(str(shared_data / "patches/histolab-fixtures" / f"{name}.png"), cv2.IMREAD_COLOR)
    with pytest.raises(SlideProblem, match="no tissue"):
        segment(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))

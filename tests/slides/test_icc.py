import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
import tifffile
from PIL import ImageCms

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.slides.icc import ToSrgb, recolor
from wsi_kd.slides.pyramid import plan_read, read_thumbnail
from wsi_kd.slides.reader import open_slide
from wsi_kd.slides.recolored_tiles import recolored
from wsi_kd.slides.tile_source import open_tile_source


def profile(name="sRGB"):
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


def with_exchanged_primaries():
    """sRGB's profile, its red and blue primaries exchanged: the scanner wrote blue where red belongs."""
    return profile().replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")


def tile(seed=0, edge_px=32):
    return np.random.default_rng(seed).integers(0, 256, (edge_px, edge_px, 3), dtype=np.uint8)


def test_srgb_pixels_are_left_as_they_are():
    pixels = tile()
    before = pixels.copy()
    shown = ToSrgb(profile())(pixels)
    assert np.abs(shown.astype(int) - pixels).max() <= 1
    np.testing.assert_array_equal(pixels, before)
    shown[0, 0] = 7
    assert shown.flags.c_contiguous


def test_a_profile_with_exchanged_primaries_exchanges_red_and_blue():
    pixels = tile(1)
    shown = ToSrgb(with_exchanged_primaries())(pixels)
    assert np.abs(shown.astype(int) - pixels[..., ::-1]).max() <= 1


def test_gray_stays_gray_and_white_white_whatever_the_primaries():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    shown = ToSrgb(with_exchanged_primaries())(ramp)
    assert np.abs(shown.astype(int) - ramp).max() <= 1
    assert (shown[0, 255] == 255).all()
    assert (shown[0, 0] == 0).all()


def test_one_transform_serves_many_threads():
    shown = ToSrgb(with_exchanged_primaries())
    tiles = [tile(seed, 64) for seed in range(40)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(shown, tiles))
    for one, alone in zip(together, map(shown, tiles), strict=True):
        np.testing.assert_array_equal(one, alone)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", r"0 bytes\) is damaged"),
        (b"no profile at all" * 20, "is damaged"),
        (profile()[:200], "is damaged"),
        (profile("LAB"), "describes Lab pixels, not RGB"),
    ],
)
def test_a_broken_profile_has_a_reason_and_a_remedy(content, told):
    with pytest.raises(SlideProblem, match=told) as problem:
        ToSrgb(content)
    assert problem.value.status == SlideStatus.UNREADABLE
    assert "slides.color: as_stored" in problem.value.reason


@pytest.fixture
def slide_with_profile(tmp_path):
    """A tiled TIFF whose profile says that red and blue are exchanged, and its pixels."""
    pixels = tile(2, 512)
    path = tmp_path / "profile.tif"
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", iccprofile=with_exchanged_primaries())
    return path, pixels


def test_only_who_asks_for_it_sees_srgb(slide_with_profile):
    path, pixels = slide_with_profile
    with open_slide(path, background="white") as reader:
        stored = reader.read_region(x_level0_px=0, y_level0_px=0, level=0, width_px=512, height_px=512)
        np.testing.assert_array_equal(stored, pixels)
        assert recolor(reader, "as_stored") is None
        shown = recolor(reader, "srgb")(stored)
        thumbnail = read_thumbnail(reader, slide_mpp=0.5, thumbnail_mpp=0.5, color="srgb")
        plan = plan_read((1.0,), slide_mpp=0.5, tile_mpp=0.5, tile_px=64, mpp_tolerance=0.0)
        coords = np.array([[64, 128]], np.int64)
        with closing(recolored(open_tile_source(reader, plan, coords), reader, "srgb")) as source:
            cut = source.read(64, 128)
            out = np.empty_like(cut)
            source.read(64, 128, out)
    assert np.abs(shown.astype(int) - pixels[..., ::-1]).max() <= 1
    np.testing.assert_array_equal(thumbnail.pixels, shown)
    np.testing.assert_array_equal(cut, shown[128:192, 64:128])
    np.testing.assert_array_equal(out, cut)


def test_a_transform_survives_pickling():
    pixels = tile(5)
    transform = ToSrgb(with_exchanged_primaries())
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(transform))(pixels), transform(pixels))


def test_a_slide_without_profile_is_taken_as_it_is(tmp_path):
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, tile(3, 256), tile=(256, 256), photometric="rgb")
    with open_slide(path, background="white") as reader:
        assert recolor(reader, "srgb") is None


def test_white_becomes_white_whatever_white_the_profile_tells():
    """Relative colorimetric: a yellowish media white is the scanner's lamp, not a color of the tissue."""
    plain = bytearray(profile())
    entry = plain.find(b"wtpt")
    at = int.from_bytes(plain[entry + 4 : entry + 8], "big") + 8
    for axis, value in enumerate((0.90, 0.95, 0.50)):
        plain[at + 4 * axis : at + 4 * axis + 4] = round(value * 65536).to_bytes(4, "big")
    shown = ToSrgb(bytes(plain))(np.full((2, 2, 3), 255, np.uint8))
    assert (shown == 255).all()

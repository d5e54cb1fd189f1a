"""Stored samples become 8-bit colors by declared depth and opacity alone: hand-worked values."""

import numpy as np
import pytest
import tifffile
from tiff_files import TILE, draw_pixels, read, write

from wsi_kd.core.errors import SlideProblem
from wsi_kd.slides.reader import open_slide
from wsi_kd.slides.samples import SampleModel, to_rgb
from wsi_kd.slides.tiff_reader import open_tiff

PLAIN = SampleModel(8, inverted=False, colormap=None, alpha=False, premultiplied=False)


def one_pixel(*values, dtype=np.uint8):
    return np.array([[values]], dtype)


@pytest.mark.parametrize(
    ("bits", "stored", "expected"),
    [(1, 1, 255), (3, 2, 73), (3, 7, 255), (4, 7, 119), (5, 3, 25), (10, 1023, 255), (12, 0x7AB, 0x7A)],
)
def test_samples_of_fewer_or_more_than_8_bits(bits, stored, expected):
    """3 bits: 2 / 7 x 255 = 72.9; 5 bits: 3 / 31 x 255 = 24.7; more than 8 are cut, not rounded."""
    found = to_rgb(one_pixel(stored, dtype=np.uint16), PLAIN._replace(bits=bits))
    assert found.tolist() == [[[expected] * 3]]


def test_a_sample_above_its_declared_depth_is_white_not_wrapped():
    assert to_rgb(one_pixel(0xFFFF, dtype=np.uint16), PLAIN._replace(bits=12)).tolist() == [[[255] * 3]]


def test_premultiplied_colors_are_divided_by_their_opacity():
    """64 x 255 / 128 = 127.5, rounded up; at opacity 1 the color is all or nothing, at 0 none."""
    model = PLAIN._replace(alpha=True, premultiplied=True)
    assert to_rgb(one_pixel(64, 32, 128, 128), model).tolist() == [[[128, 64, 255, 128]]]
    assert to_rgb(one_pixel(1, 0, 1, 1), model).tolist() == [[[255, 0, 255, 1]]]
    assert to_rgb(one_pixel(9, 9, 9, 0), model)[0, 0, 3] == 0
    straight = model._replace(premultiplied=False)
    assert to_rgb(one_pixel(64, 32, 128, 128), straight).tolist() == [[[64, 32, 128, 128]]]


@pytest.mark.parametrize(("kind", "expected"), [("assocalpha", 227), ("unassalpha", 177)])
def test_half_opacity_is_read_as_its_tag_says(tmp_path, kind, expected):
    """100 stored at opacity 128: 100 + 127 on white where it was multiplied, else 100 x 128/255 + 127."""
    pixels = np.full((TILE, TILE, 4), (100, 100, 100, 128), np.uint8)
    path = write(tmp_path / "a.tif", pixels, tile=(TILE, TILE), extrasamples=[kind])
    for use in (open_tiff, open_slide):
        with use(path, background="metadata") as reader:
            assert read(reader, size=(1, 1))[0, 0].tolist() == pytest.approx([expected] * 3, abs=1)


def test_a_palette_of_16_bits_keeps_its_upper_byte(tmp_path):
    colors = np.zeros((3, 256), np.uint16)
    colors[:, 5] = 0x12FF, 0x8000, 0xFE01
    path = write(tmp_path / "a.tif", np.full((9, 9), 5, np.uint8), photometric="palette", colormap=colors)
    with open_tiff(path, background="metadata") as reader:
        assert read(reader, size=(1, 1))[0, 0].tolist() == [0x12, 0x80, 0xFE]


def test_a_strip_that_would_decode_to_gigabytes_is_refused(tmp_path):
    path = write(tmp_path / "a.tif", draw_pixels(), compression="lzw", rowsperstrip=50)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            tiff.pages[0].tags[name].overwrite(20_000)
    with pytest.raises(SlideProblem, match="pieces of 20000x20000 px, 1,144 MiB each; write it in tiles"):
        open_slide(path, background="metadata")


def test_a_level_that_was_rounded_otherwise_in_x_and_y_is_a_level(tmp_path):
    """330x270 by 4 is 82.5x67.5: some round down in x and up in y."""
    drawn = draw_pixels()
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for page in (drawn, drawn[:272:4, :328:4]):
            tiff.write(page, tile=(TILE, TILE), photometric="rgb", metadata=None)
    with open_tiff(path, background="metadata") as reader:
        assert reader.level_dimensions == ((330, 270), (82, 68))


def test_a_region_of_a_coarse_level_starts_at_the_nearest_pixel(tmp_path):
    drawn = draw_pixels()
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for page in (drawn, drawn[::4, ::4]):
            tiff.write(page, tile=(TILE, TILE), photometric="rgb", metadata=None)
    with open_tiff(path, background="metadata") as reader:  # downsample 3.973: 25.67, 15.60
        assert np.array_equal(read(reader, 102, 62, size=(20, 20), level=1), drawn[::4, ::4][16:36, 26:46])

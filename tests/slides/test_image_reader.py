"""PNG and JPEG as slides: upright, 8-bit RGB, bounded."""

import gc
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.slides import image_reader
from wsi_kd.slides.mpp import resolve_mpp
from wsi_kd.slides.reader import open_slide

HEIGHT, WIDTH = 60, 90


@pytest.fixture
def drawn():
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def read(reader, x=0, y=0, *, width=WIDTH, height=HEIGHT):
    return reader.read_region(x_level0_px=x, y_level0_px=y, level=0, width_px=width, height_px=height)


def test_png_pixels_profile_and_resolution(tmp_path, drawn):
    path = tmp_path / "slide.svs"  # the name says nothing
    Image.fromarray(drawn).save(path, format="PNG", dpi=(50800, 50800), icc_profile=b"profile")
    with open_slide(path, background="metadata") as reader:
        assert (reader.format, reader.level_dimensions) == ("image/png", ((WIDTH, HEIGHT),))
        assert reader.icc_profile == b"profile"
        assert np.array_equal(read(reader), drawn)
        outside = read(reader, -5, -7, width=20, height=20)
        assert np.array_equal(outside[7:, 5:], drawn[:13, :15])
        assert (outside[:7] == 255).all()
        mpp = resolve_mpp(reader.properties, override=None, min_mpp=0.05, max_mpp=20.0, from_objective=True)
    assert mpp.source == "png"
    assert mpp.mpp == pytest.approx(0.5, rel=1e-3)


def test_jpeg_density_is_told_as_tiff_spells_it(tmp_path, drawn):
    path = tmp_path / "slide.jpg"
    Image.fromarray(drawn).save(path, quality=95, dpi=(25400, 12700))
    with open_slide(path, background="metadata") as reader:
        assert reader.format == "image/jpeg"
        assert reader.properties["tiff.XResolution"] == "25400"
        assert reader.properties["tiff.YResolution"] == "12700"
        with Image.open(path) as image:
            assert np.array_equal(read(reader), np.asarray(image))


TURNS = {
    2: lambda seen: seen[:, ::-1],
    3: lambda seen: seen[::-1, ::-1],
    4: lambda seen: seen[::-1],
    5: lambda seen: seen.transpose(1, 0, 2),
    6: lambda seen: np.rot90(seen, -1),
    7: lambda seen: seen[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNS)
def test_every_exif_orientation_is_turned_upright(tmp_path, drawn, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(drawn).save(tmp_path / "slide.png", exif=exif)
    expected = TURNS[orientation](drawn)
    height, width = expected.shape[:2]
    with open_slide(tmp_path / "slide.png", background="metadata") as reader:
        assert reader.level_dimensions == ((width, height),)
        assert np.array_equal(read(reader, width=width, height=height), expected)


def test_exif_orientation_is_applied(tmp_path, drawn):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    path = tmp_path / "slide.png"
    Image.fromarray(drawn).save(path, exif=exif)
    with open_slide(path, background="metadata") as reader:
        assert reader.level_dimensions == ((HEIGHT, WIDTH),)
        assert np.array_equal(read(reader, width=HEIGHT, height=WIDTH), np.rot90(drawn, -1))


@pytest.mark.parametrize(
    "damaged",
    [
        b"II*\0\xff\xff\xff\x7f",  # a directory behind the end
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abc\0\0\0\0\0",  # an orientation of letters
        b"MM",
    ],
)
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_damaged_exif_turns_nothing_and_is_no_traceback(tmp_path, drawn, ending, damaged):
    path, plain = tmp_path / f"slide.{ending}", tmp_path / f"plain.{ending}"
    Image.fromarray(drawn).save(plain)
    Image.fromarray(drawn).save(path, exif=b"Exif\0\0" + damaged)
    with (
        open_slide(path, background="metadata") as reader,
        open_slide(plain, background="metadata") as expected,
    ):
        assert reader.level_dimensions == ((WIDTH, HEIGHT),)
        assert np.array_equal(read(reader), read(expected))


def test_modes_become_8_bit_rgb(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(image_reader, "BAND_ROWS", 17)
    gray = drawn[..., 0]
    Image.fromarray(gray.astype(np.uint16) * 256 + 99).save(tmp_path / "deep.png")
    with open_slide(tmp_path / "deep.png", background="metadata") as reader:
        assert np.array_equal(read(reader), np.repeat(gray[..., None], 3, axis=2))
    alpha = np.where(np.arange(WIDTH) < 40, 255, 0).astype(np.uint8)[None].repeat(HEIGHT, axis=0)
    Image.fromarray(np.dstack([drawn, alpha])).save(tmp_path / "alpha.png")
    with open_slide(tmp_path / "alpha.png", background="metadata") as reader:
        assert np.array_equal(read(reader), np.where(alpha[..., None] > 0, drawn, np.uint8(255)))
    indexed = Image.fromarray(drawn).quantize(16)
    indexed.save(tmp_path / "palette.png")
    with open_slide(tmp_path / "palette.png", background="metadata") as reader:
        assert np.array_equal(read(reader), np.asarray(indexed.convert("RGB")))
    Image.fromarray(drawn).convert("CMYK").save(tmp_path / "print.jpg")
    with pytest.raises(SlideProblem, match="CMYK"):
        open_slide(tmp_path / "print.jpg", background="metadata")


def test_too_large_images_are_refused_unread(tmp_path, drawn, monkeypatch):
    path = tmp_path / "slide.png"
    Image.fromarray(drawn).save(path)
    monkeypatch.setattr(image_reader, "MAX_PX", WIDTH * HEIGHT)
    open_slide(path, background="metadata").close()
    monkeypatch.setattr(image_reader, "MAX_PX", WIDTH * HEIGHT - 1)
    with pytest.raises(SlideProblem, match=r"90x60 px, more than .*vips tiffsave") as problem:
        open_slide(path, background="metadata")
    assert problem.value.status == SlideStatus.UNREADABLE


def test_a_header_that_declares_a_bomb_is_refused(tmp_path):
    Image.new("1", (20, 20)).save(tmp_path / "bomb.png")
    content = bytearray((tmp_path / "bomb.png").read_bytes())
    content[16:24] = struct.pack(">II", 20_000, 20_000)  # 400 megapixels
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "bomb.png").write_bytes(content)
    with pytest.raises(SlideProblem, match="179 megapixels"):
        open_slide(tmp_path / "bomb.png", background="metadata")


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_truncated_image_is_damaged_and_so_it_stays(tmp_path, drawn, ending):
    path = tmp_path / f"slide.{ending}"
    Image.fromarray(drawn).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with open_slide(path, background="metadata") as reader:
        for _ in range(2):
            with pytest.raises(SlideProblem, match="damaged at x 3, y 4"):
                read(reader, 3, 4, width=8, height=8)


def test_readers_of_one_image_share_its_pixels_and_free_them(tmp_path, drawn):
    path = tmp_path / "slide.png"
    Image.fromarray(drawn).save(path)
    with open_slide(path, background="metadata") as one, open_slide(path, background="metadata") as other:
        read(one)
        read(other)
        assert one._source.read_segment(0, column=0, row=0) is other._source.read_segment(0, column=0, row=0)
    del one, other
    gc.collect()
    assert not any(key[0] == path.resolve() for key in image_reader._DECODED)

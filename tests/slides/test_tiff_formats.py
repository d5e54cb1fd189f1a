"""TIFF as the field writes it: every layout gives the pixels that were drawn, level by level, exactly."""

import cv2
import numpy as np
import pytest
import tifffile
from tiff_files import HEIGHT, TILE, WIDTH, draw_pixels, read, write, write_ome

from wsi_kd.slides.reader import open_slide
from wsi_kd.slides.tiff_reader import open_tiff


@pytest.fixture(scope="module")
def drawn():
    return draw_pixels()


LOSSLESS = {
    "tiles": {"tile": (TILE, TILE)},
    "tiles_deflate_predictor": {"tile": (TILE, TILE), "compression": "deflate", "predictor": True},
    "tiles_jpeg2000": {"tile": (TILE, TILE), "compression": "jpeg2000"},
    "tiles_zstd": {"tile": (TILE, TILE), "compression": "zstd"},
    "strips": {"rowsperstrip": 16},
    "strips_lzw": {"rowsperstrip": 50, "compression": "lzw"},
    "one_strip": {"rowsperstrip": HEIGHT},
    "one_strip_big_endian": {"rowsperstrip": HEIGHT, "byteorder": ">"},
    "bigtiff": {"tile": (TILE, TILE), "bigtiff": True},
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_interleaved_pages_give_the_pixels_that_were_drawn(tmp_path, drawn, name):
    path = write(tmp_path / "slide.tif", drawn, **LOSSLESS[name])
    with open_tiff(path, background="metadata") as reader:
        assert reader.level_dimensions == ((WIDTH, HEIGHT),)
        assert np.array_equal(read(reader), drawn)
        assert np.array_equal(read(reader, 61, 130, size=(70, 90)), drawn[130:220, 61:131])


@pytest.mark.parametrize("name", ["tiles", "tiles_deflate_predictor", "strips", "strips_lzw", "one_strip"])
def test_planar_pages_give_the_pixels_that_were_drawn(tmp_path, drawn, name):
    planes = np.moveaxis(drawn, -1, 0)
    path = write(tmp_path / "slide.tif", planes, planarconfig="separate", **LOSSLESS[name])
    with open_tiff(path, background="metadata") as reader:
        assert reader.format == "tiff/planar"
        assert np.array_equal(read(reader, 61, 130, size=(70, 90)), drawn[130:220, 61:131])
        assert np.array_equal(read(reader), drawn)


def test_outside_the_slide_is_background(tmp_path, drawn):
    path = write(tmp_path / "slide.tif", drawn, tile=(TILE, TILE))
    with open_tiff(path, background="metadata") as reader:
        around = read(reader, -10, -20, size=(WIDTH + 30, HEIGHT + 50))
        assert np.array_equal(around[20 : 20 + HEIGHT, 10 : 10 + WIDTH], drawn)
        around[20 : 20 + HEIGHT, 10 : 10 + WIDTH] = 255
        assert (around == 255).all()
        assert (read(reader, 5000, -900, size=(7, 9)) == 255).all()


@pytest.mark.parametrize("axes", ["YXS", "SYX", "CYX"])
def test_ome_tiff_levels_are_found_in_subifds(tmp_path, drawn, axes):
    """Interleaved, planar, and three pages of one sample each."""
    pixels = drawn if axes == "YXS" else np.moveaxis(drawn, -1, 0)
    photometric = "minisblack" if axes == "CYX" else "rgb"
    options = {"tile": (TILE, TILE), "photometric": photometric}
    options |= {"planarconfig": "separate"} if axes == "SYX" else {}
    path = write_ome(tmp_path / "slide.tif", pixels, axes=axes, levels=3, **options)
    with open_slide(path, background="metadata") as reader:
        assert reader.format == "tiff/ome"
        assert reader.level_dimensions == ((330, 270), (165, 135), (83, 68))
        assert reader.level_downsamples == pytest.approx((1.0, 2.0, (330 / 83 + 270 / 68) / 2))
        assert reader.properties["ome.PhysicalSizeX"] == "0.25"
        assert reader.properties["ome.PhysicalSizeYUnit"] == "µm"
        assert np.array_equal(read(reader), drawn)
        assert np.array_equal(read(reader, size=(165, 135), level=1), drawn[::2, ::2])
        assert np.array_equal(read(reader, 100, 60, size=(40, 30), level=2), drawn[::4, ::4][15:45, 25:65])


def test_levels_may_be_further_pages_and_others_are_associated_images(tmp_path, drawn):
    path = tmp_path / "slide.tif"
    label = drawn[:100, :80]
    with tifffile.TiffWriter(path) as tiff:
        for page in (drawn, label, drawn[::2, ::2], drawn[::4, ::4]):
            tiff.write(page, tile=(TILE, TILE), photometric="rgb", metadata=None)
    with open_tiff(path, background="metadata") as reader:
        assert reader.level_dimensions == ((330, 270), (165, 135), (83, 68))
        assert reader.associated == {"page 1": (80, 100)}
        assert np.array_equal(read(reader, size=(83, 68), level=2), drawn[::4, ::4])


def test_label_and_macro_of_an_ome_tiff_are_associated_images(tmp_path, drawn):
    """Series as Bio-Formats converts a scan: the slide with its pyramid, then its other images."""
    path = tmp_path / "slide.ome.tif"
    options = {"tile": (TILE, TILE), "photometric": "rgb"}
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(drawn[:50, :70], metadata={"axes": "YXS", "Name": "label image"}, **options)
        tiff.write(drawn, subifds=1, metadata={"axes": "YXS", "Name": "scan"}, **options)
        tiff.write(drawn[::2, ::2], subfiletype=1, **options)
        tiff.write(drawn[:30, :200], metadata={"axes": "YXS", "Name": "macro"}, **options)
    with open_slide(path, background="metadata") as reader:
        assert reader.level_dimensions == ((330, 270), (165, 135))
        assert reader.associated == {"label image": (70, 50), "macro": (200, 30)}
        assert np.array_equal(read(reader), drawn)


def test_pages_behind_an_ome_tiffs_own_are_levels_where_they_are_marked_so(tmp_path, drawn):
    """What `vips tiffsave --pyramid` makes of an OME-TIFF: the XML it had, and pages it does not name."""
    path = tmp_path / "converted.tif"
    options = {"tile": (TILE, TILE), "photometric": "rgb", "metadata": None}
    xml = tifffile.OmeXml()
    xml.addimage("uint8", drawn.shape, (1, 1, 1, *drawn.shape[:2], 3), axes="YXS")
    with tifffile.TiffWriter(path, ome=False) as tiff:
        tiff.write(drawn, description=xml.tostring(), **options)
        tiff.write(drawn[::2, ::2], subfiletype=1, **options)
        tiff.write(drawn[::4, ::4, 1], subfiletype=1, **{**options, "photometric": "minisblack"})
        tiff.write(drawn[::4, ::4], **options)
    with open_slide(path, background="metadata") as reader:
        assert (reader.format, reader.associated) == ("tiff/ome", {})
        assert reader.level_dimensions == ((330, 270), (165, 135))
        assert np.array_equal(read(reader, size=(165, 135), level=1), drawn[::2, ::2])


@pytest.mark.parametrize("photometric", ["rgb", "ycbcr"])
def test_jpeg_tiles_are_decoded_as_the_tag_says(tmp_path, drawn, photometric):
    options = {"compression": "jpeg", "compressionargs": {"level": 95}}
    options |= {"photometric": photometric, "subsampling": (1, 1)} if photometric == "ycbcr" else {}
    stored = cv2.cvtColor(drawn, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]] if photometric == "ycbcr" else drawn
    path = write(tmp_path / "slide.tif", stored, tile=(TILE, TILE), **options)
    with open_tiff(path, background="metadata") as reader, open_slide(path, background="metadata") as other:
        assert other.format == "openslide/generic-tiff"
        assert np.array_equal(read(reader), read(other))
        assert np.abs(read(reader).astype(int) - drawn).mean() < 12


@pytest.mark.parametrize("layout", ["planar jpeg", "jpeg strips", "gray jpeg", "rgba webp"])
def test_other_lossy_layouts_equal_what_tifffile_decodes(tmp_path, drawn, layout):
    opaque = np.dstack([drawn, np.full((HEIGHT, WIDTH), 255, np.uint8)])
    pixels, options = {
        "planar jpeg": (np.moveaxis(drawn, -1, 0), {"planarconfig": "separate"}),
        "jpeg strips": (drawn, {}),
        "gray jpeg": (drawn[..., 1], {"photometric": "minisblack"}),
        "rgba webp": (opaque, {"extrasamples": [2], "compression": "webp"}),
    }[layout]
    pieces = {"rowsperstrip": 64} if layout == "jpeg strips" else {"tile": (TILE, TILE)}
    path = write(tmp_path / "slide.tif", pixels, **{"compression": "jpeg", **pieces, **options})
    with open_tiff(path, background="metadata") as reader, tifffile.TiffFile(path) as tiff:
        stored = tiff.asarray()
        expected = np.moveaxis(stored, 0, -1) if layout == "planar jpeg" else np.atleast_3d(stored)[..., :3]
        assert np.array_equal(read(reader), np.broadcast_to(expected, drawn.shape))


DEPTHS = {
    "16 bits": (lambda gray: gray.astype(np.uint16) * 256 + 77, {}),
    "12 of 16 bits": (lambda gray: gray.astype(np.uint16) * 16 + 9, {"bitspersample": 12}),
    "8 bits": (lambda gray: gray, {}),
    "inverted": (lambda gray: 255 - gray, {"photometric": "miniswhite"}),
}


@pytest.mark.parametrize("name", DEPTHS)
def test_gray_images_of_every_depth_become_8_bit_rgb(tmp_path, drawn, name):
    convert, options = DEPTHS[name]
    gray = drawn[..., 0]
    options = {"photometric": "minisblack", **options}
    path = write(tmp_path / "slide.tif", convert(gray), rowsperstrip=32, **options)
    with open_tiff(path, background="metadata") as reader:
        assert np.array_equal(read(reader), np.repeat(gray[..., None], 3, axis=2))


def test_significant_bits_of_ome_xml_are_the_depth(tmp_path, drawn):
    path = tmp_path / "slide.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tiff:
        stored = drawn.astype(np.uint16) * 4 + 3
        tiff.write(stored, photometric="rgb", metadata={"axes": "YXS", "SignificantBits": 10})
    with open_tiff(path, background="metadata") as reader:
        assert np.array_equal(read(reader), drawn)


def test_one_bit_and_palette_images(tmp_path, drawn):
    black = drawn[..., 0] > 100
    write(tmp_path / "bits.tif", black, photometric="minisblack")
    with open_tiff(tmp_path / "bits.tif", background="metadata") as reader:
        assert np.array_equal(read(reader)[..., 1], black * 255)
    colors = np.random.default_rng(1).integers(0, 256, (3, 256)).astype(np.uint16)
    write(tmp_path / "palette.tif", drawn[..., 0], photometric="palette", colormap=colors * 257)
    with open_tiff(tmp_path / "palette.tif", background="metadata") as reader:
        assert np.array_equal(read(reader), colors.T[drawn[..., 0]])


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha", "unspecified"])
def test_opacity_is_composited_on_white_and_other_fourth_samples_are_left_out(tmp_path, drawn, kind):
    alpha = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
    alpha[:, WIDTH // 2 :] = 0
    stored = drawn * (alpha > 0) if kind == "assocalpha" else drawn
    pixels = np.concatenate([stored, alpha], axis=2)
    path = write(tmp_path / "slide.tif", pixels, tile=(TILE, TILE), extrasamples=[kind])
    expected = drawn if kind == "unspecified" else np.where(alpha > 0, drawn, np.uint8(255))
    with open_tiff(path, background="metadata") as reader:
        assert np.array_equal(read(reader), expected)


def test_tiles_that_were_never_stored_are_background(tmp_path, drawn):
    def tiles():
        for row in range(0, HEIGHT, TILE):
            for column in range(0, WIDTH, TILE):
                tile = np.zeros((TILE, TILE, 3), np.uint8)
                part = drawn[row : row + TILE, column : column + TILE]
                tile[: part.shape[0], : part.shape[1]] = part
                yield None if column == TILE else tile

    path = tmp_path / "slide.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(tiles(), shape=drawn.shape, dtype="uint8", tile=(TILE, TILE), photometric="rgb")
    expected = drawn.copy()
    expected[:, TILE : 2 * TILE] = 255
    with open_tiff(path, background="metadata") as reader:
        assert np.array_equal(read(reader), expected)


def test_resolution_color_profile_and_imagej_units_are_told(tmp_path, drawn):
    path = write(
        tmp_path / "a.tif", drawn, resolution=(20000, 40000), resolutionunit=3, iccprofile=b"profile"
    )
    with open_tiff(path, background="metadata") as reader:
        assert reader.icc_profile == b"profile"
        assert reader.properties["tiff.XResolution"] == "20000"
        assert reader.properties["tiff.YResolution"] == "40000"
        assert reader.properties["tiff.ResolutionUnit"] == "centimeter"
    imagej = {"unit": "um"}
    tifffile.imwrite(tmp_path / "b.tif", drawn, imagej=True, resolution=(4, 4), metadata=imagej)
    with open_tiff(tmp_path / "b.tif", background="metadata") as reader:
        assert "unit=um" in reader.properties["tiff.ImageDescription"]


@pytest.mark.shared_data
def test_a_real_ome_tiff_equals_what_tifffile_decodes(shared_data):
    path = shared_data / "wsi/OS-1-detail.ome.tif"
    with open_slide(path, background="metadata") as reader, tifffile.TiffFile(path) as tiff:
        assert reader.format == "tiff/ome"
        assert reader.properties["ome.PhysicalSizeX"].startswith("0.2270")
        assert np.array_equal(
            read(reader, 100, 200, size=(900, 800)), tiff.pages[0].asarray()[200:1000, 100:1000]
        )


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["wsi/CMU-1-Small-Region.svs", "derived/os2_ki67_4level_generic_mpp.tif"])
def test_real_slides_that_both_read_are_the_same_to_both(shared_data, name):
    path = shared_data / name
    with open_tiff(path, background="white") as one, open_slide(path, background="white") as other:
        assert np.array_equal(read(one, 700, 900, size=(600, 500)), read(other, 700, 900, size=(600, 500)))

"""Tiled TIFF that OpenSlide would show wrongly, in part or without a word is read or refused by name."""

import struct

import numpy as np
import pytest
import tifffile
from tiff_files import TILE, draw_pixels, read, write, write_ome

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.slides.info import describe_file
from wsi_kd.slides.ome_xml import parse_ome
from wsi_kd.slides.reader import open_slide

TILES = {"tile": (TILE, TILE)}


@pytest.fixture(scope="module")
def drawn():
    return draw_pixels()


def with_pages(path, *pages, **options):
    with tifffile.TiffWriter(path) as tiff:
        for page in pages:
            tiff.write(page, **{"photometric": "rgb", "metadata": None, **TILES, **options})
    return path


REFUSED = {
    "cmyk": (lambda rgb: np.dstack([rgb, rgb[..., 0]]), "separated", "unreadable", "SEPARATED"),
    "cielab": (lambda rgb: rgb, "cielab", "unreadable", "CIELAB"),
    "two channels": (lambda rgb: rgb[..., :2], "minisblack", "empty", "2 channels"),
    "five channels": (lambda rgb: np.dstack([rgb, rgb[..., :2]]), "minisblack", "empty", "5 channels"),
    "signed": (lambda rgb: rgb.astype(np.int16), "rgb", "unreadable", "int16"),
    "32 bits": (lambda rgb: rgb.astype(np.uint32), "rgb", "unreadable", "uint32"),
    "float": (lambda rgb: rgb.astype(np.float32), "rgb", "unreadable", "float32"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_tiled_samples_that_are_no_brightfield_colors_are_refused_when_opened(tmp_path, drawn, name):
    change, photometric, status, told = REFUSED[name]
    pixels = change(drawn)
    path = write(tmp_path / "a.tif", pixels, photometric=photometric, planarconfig="contig", **TILES)
    with pytest.raises(SlideProblem, match=f"{told}.*export") as problem:
        open_slide(path, background="metadata")
    assert problem.value.status == SlideStatus(status)


def test_tiled_16_bit_samples_lose_their_lower_byte_alone(tmp_path, drawn):
    stored = drawn.astype(np.uint16) << 8 | 200
    with open_slide(write(tmp_path / "rgb.tif", stored, **TILES), background="metadata") as reader:
        assert np.array_equal(read(reader), drawn)
    gray = write(tmp_path / "gray.tif", stored[..., 1], photometric="minisblack", **TILES)
    with open_slide(gray, background="metadata") as reader:
        assert np.array_equal(read(reader), np.repeat(drawn[..., 1:2], 3, axis=2))


def test_a_fourth_sample_of_no_meaning_changes_no_color(tmp_path, drawn):
    pixels = np.dstack([drawn, np.full(drawn.shape[:2], 9, np.uint8)])
    path = write(tmp_path / "a.tif", pixels, extrasamples=["unspecified"], **TILES)
    with open_slide(path, background="metadata") as reader:
        assert np.array_equal(read(reader), drawn)


def test_plain_8_bit_tiles_stay_with_openslide(tmp_path, drawn):
    opaque = np.dstack([drawn, np.full(drawn.shape[:2], 255, np.uint8)])
    for pixels, options in (
        (drawn, {}),
        (drawn[..., 0], {"photometric": "minisblack"}),
        (opaque, {"extrasamples": ["unassalpha"]}),
    ):
        path = write(tmp_path / "a.tif", pixels, **TILES, **options)
        with open_slide(path, background="metadata") as reader:
            assert reader.format == "openslide/generic-tiff"


def test_levels_without_a_mark_are_levels_in_any_order(tmp_path, drawn):
    for order in ((0, 1, 2), (2, 0, 1)):
        pages = [drawn[:: 2**level, :: 2**level] for level in order]
        with open_slide(with_pages(tmp_path / "a.tif", *pages), background="metadata") as reader:
            assert reader.level_downsamples == pytest.approx((1.0, 2.0, 4.0), rel=0.02)
            assert np.array_equal(read(reader), drawn)


def test_the_label_in_front_never_passes_for_the_slide(tmp_path, drawn):
    path = with_pages(tmp_path / "a.tif", drawn[:40, :100], drawn)
    with open_slide(path, background="metadata") as reader:
        assert np.array_equal(read(reader), drawn)
        assert dict(reader.associated) == {"page 0": (100, 40)}


@pytest.mark.parametrize(("channels", "status"), [(3, "unreadable"), (1, "empty")])
def test_a_tiled_stack_is_refused_not_shown_by_its_first_page(tmp_path, drawn, channels, status):
    page, photometric = (drawn, "rgb") if channels == 3 else (drawn[..., 0], "minisblack")
    path = with_pages(tmp_path / "a.tif", page, page, page, photometric=photometric)
    with pytest.raises(SlideProblem, match=r"3 (gray )?pages of one size") as problem:
        open_slide(path, background="metadata")
    assert problem.value.status == SlideStatus(status)


def test_a_chain_of_directories_that_leads_back_into_itself_ends(tmp_path, drawn):
    path = write(tmp_path / "a.tif", drawn, **TILES)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0].aspage()
        at, tags = page.offset, len(page.tags)
    content = bytearray(path.read_bytes())
    content[at + 2 + 12 * tags : at + 6 + 12 * tags] = struct.pack("<I", at)
    path.write_bytes(content)
    with open_slide(path, background="metadata") as reader:
        assert np.array_equal(read(reader), drawn)
        assert describe_file(reader).compression == "NONE"


def test_of_two_refusals_openslides_is_told(tmp_path, drawn):
    path = write(tmp_path / "a.tif", drawn, **TILES)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[0].tags["TileWidth"].overwrite(0)
    with pytest.raises(SlideProblem, match="OpenSlide cannot open it"):
        open_slide(path, background="metadata")


def test_tiles_that_were_never_stored_are_counted(tmp_path, drawn):
    path = write(tmp_path / "a.tif", drawn, **TILES)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for name in ("TileOffsets", "TileByteCounts"):
            tag = tiff.pages[0].tags[name]
            tag.overwrite([0, 0, *tag.value[2:]])
    with open_slide(path, background="metadata") as reader:
        assert describe_file(reader).unstored == 2


def test_three_channels_of_dyes_are_no_rgb(tmp_path, drawn):
    planes = np.moveaxis(drawn, -1, 0)
    for name, channels in (("dyes", ["DAPI", "FITC", "TRITC"]), ("colors", ["Red", "Green", "Blue"])):
        path = tmp_path / f"{name}.ome.tif"
        metadata = {"axes": "CYX", "Channel": {"Name": channels}}
        tifffile.imwrite(path, planes, ome=True, photometric="minisblack", metadata=metadata)
    with pytest.raises(SlideProblem, match=r"3 channels \(DAPI, FITC, TRITC\)") as problem:
        open_slide(tmp_path / "dyes.ome.tif", background="metadata")
    assert problem.value.status == SlideStatus.EMPTY
    with open_slide(tmp_path / "colors.ome.tif", background="metadata") as reader:
        assert np.array_equal(read(reader), drawn)


@pytest.mark.parametrize(
    "change",
    [
        ('SizeC="3"', 'SizeC="3000000000"'),
        ('SizeT="1"', 'SizeT="2000000000"', '<TiffData PlaneCount="2000000000"/>'),
        ('SamplesPerPixel="3"', 'SamplesPerPixel="0"'),
        ("<TiffData/>", '<TiffData IFD="-1"/>'),
        ("XYCZT", "QQ"),
    ],
)
def test_ome_xml_that_declares_endless_or_absent_planes_is_refused_or_bounded(tmp_path, drawn, change):
    path = write_ome(tmp_path / "a.ome.tif", drawn, photometric="rgb")
    with tifffile.TiffFile(path) as tiff:
        text = tiff.ome_metadata
    start, end = text.index("<TiffData"), text.index("</Pixels>")
    text = text[:start] + (change[2] if len(change) > 2 else "<TiffData/>") + text[end:]
    text = text.replace(change[0], change[1])
    if 'SizeT="2' in text:
        (image,) = parse_ome(text, pages=1)
        assert (image.planes, image.time_points) == ((0,), 2_000_000_000)
        return
    with pytest.raises(SlideProblem, match="OME-XML"):
        parse_ome(text, pages=1)


def test_a_path_that_cannot_be_reached_says_so(tmp_path):
    with pytest.raises(SlideProblem, match=r"cannot be reached \(File name too long\)"):
        open_slide(tmp_path / ("a" * 300), background="metadata")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(SlideProblem, match="no such file"):
        open_slide(tmp_path / "file" / "slide.svs", background="metadata")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(SlideProblem, match="cannot be reached"):
        open_slide(tmp_path / "loop", background="metadata")

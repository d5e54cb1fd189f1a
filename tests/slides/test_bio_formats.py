"""OME-TIFF as Bio-Formats 7 writes it: JPEG tagged YCbCr, though its planes are red, green and blue."""

import imagecodecs
import numpy as np
import pytest
import tifffile
from tiff_files import TILE, draw_pixels, read

from wsi_kd.core.errors import SlideProblem
from wsi_kd.slides.pyramid import plan_read
from wsi_kd.slides.reader import open_slide
from wsi_kd.slides.tile_source import open_tile_source

PHOTOMETRIC, YCBCR, SOFTWARE = 262, 6, "OME Bio-Formats 7.3.1"
PLANAR, INTERLEAVED = "separate", "contig"
LEVELS = 2


def jpeg(piece):
    """Encode a tile or a plane of one as Java does: JFIF, so three components are YCbCr."""
    return imagecodecs.jpeg8_encode(np.ascontiguousarray(piece), level=95)


def decoded(piece):
    return imagecodecs.jpeg8_decode(jpeg(piece))


def tiles(plane):
    """Yield the tiles of an image or plane, the last ones filled up."""
    height, width = plane.shape[:2]
    more = [(0, -height % TILE), (0, -width % TILE), *[(0, 0)] * (plane.ndim - 2)]
    padded = np.pad(plane, more)
    for y in range(0, height, TILE):
        for x in range(0, width, TILE):
            yield padded[y : y + TILE, x : x + TILE]


def planes(pixels, planar):
    return list(np.moveaxis(pixels, -1, 0)) if planar == PLANAR else [pixels]


def write(path, pixels, *, planar=PLANAR, software=SOFTWARE, photometric=YCBCR, tags=()):
    """Write levels in SubIFDs, with the tags of Bio-Formats: no YCbCrSubSampling, Software in every page."""
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for level in range(LEVELS):
            smaller = pixels[:: 2**level, :: 2**level]
            stored = [jpeg(tile) for plane in planes(smaller, planar) for tile in tiles(plane)]
            first = {"subifds": LEVELS - 1, "metadata": {"axes": "SYX" if planar == PLANAR else "YXS"}}
            tiff.write(
                iter(stored),
                shape=np.moveaxis(smaller, -1, 0).shape if planar == PLANAR else smaller.shape,
                dtype=np.uint8,
                photometric="rgb",
                planarconfig=planar,
                tile=(TILE, TILE),
                compression="jpeg",
                software=software,
                extratags=tags,
                **(first if level == 0 else {"subfiletype": 1, "metadata": None}),
            )
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for page in [tiff.pages[0], *tiff.pages[0].pages]:
            page.tags[PHOTOMETRIC].overwrite(photometric)
    return path


def expected(pixels, planar):
    """What was stored, decoded apart, plane by plane and tile by tile."""
    height, width = pixels.shape[:2]
    columns = -(-width // TILE)
    found = []
    for plane in planes(pixels, planar):
        back = [decoded(tile) for tile in tiles(plane)]
        rows = [np.hstack(back[at : at + columns]) for at in range(0, len(back), columns)]
        found.append(np.vstack(rows)[:height, :width])
    return np.dstack(found)


@pytest.fixture(scope="module")
def drawn():
    return draw_pixels()


@pytest.mark.parametrize("photometric", [YCBCR, 2], ids=["tagged YCbCr, as 7 does", "tagged RGB, as 6 does"])
@pytest.mark.parametrize("planar", [PLANAR, INTERLEAVED])
def test_colors_are_those_that_were_stored_whatever_the_tag_says(tmp_path, drawn, planar, photometric):
    path = write(tmp_path / "slide.ome.tif", drawn, planar=planar, photometric=photometric)
    with open_slide(path, background="metadata") as reader:
        assert (reader.format, reader.level_dimensions) == ("tiff/ome", ((330, 270), (165, 135)))
        found = read(reader)
        assert np.array_equal(found, expected(drawn, planar))
        assert np.abs(found.astype(int) - drawn).mean() < 6  # read as YCbCr it were 60 and more
        smaller = expected(drawn[::2, ::2], planar)
        assert np.array_equal(read(reader, size=(165, 135), level=1), smaller)


@pytest.mark.parametrize(
    ("planar", "how"), [(PLANAR, "planes 2; expected 1"), (INTERLEAVED, "stored JPEG tiles by offset")]
)
def test_interleaved_tiles_are_read_by_offset_and_planes_by_the_reader(tmp_path, drawn, planar, how):
    path = write(tmp_path / "slide.ome.tif", drawn, planar=planar)
    with open_slide(path, background="metadata") as reader:
        plan = plan_read(
            reader.level_downsamples, slide_mpp=0.5, tile_mpp=0.5, tile_px=TILE, mpp_tolerance=0.05
        )
        coords = np.array([[7, 5], [130, 99]], np.int64)
        source = open_tile_source(reader, plan, coords)
        assert source.how.endswith(how)
        for x, y in coords.tolist():
            assert np.array_equal(source.read(x, y), read(reader, x, y, size=(TILE, TILE)))
        source.close()


@pytest.mark.parametrize("tags", [(), [(530, 3, 2, (1, 1), True)]], ids=["", "YCbCrSubSampling 1, 1"])
@pytest.mark.parametrize("software", ["", "tifffile.py", "another OME Bio-Formats"])
def test_planes_of_ycbcr_by_anybody_else_are_refused_not_shown_in_false_colors(
    tmp_path, drawn, software, tags
):
    path = write(tmp_path / "slide.ome.tif", drawn, software=software, tags=tags)
    with pytest.raises(SlideProblem, match="YCbCr colors in a plane each"):
        open_slide(path, background="metadata")


def test_a_plane_that_holds_colors_or_ends_early_is_damage(tmp_path, drawn):
    """A plane of three components would be decoded to gray without a word."""
    path = write(tmp_path / "slide.ome.tif", drawn)
    with tifffile.TiffFile(path) as tiff:
        offsets, sizes = tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts
    good = path.read_bytes()
    colored = imagecodecs.jpeg8_encode(np.full((TILE, TILE, 3), 128, np.uint8), level=10)
    colored = colored.ljust(sizes[0], b"\0")
    half = good[offsets[0] :][: sizes[0] // 2].ljust(sizes[0] - 2, b"\0") + b"\xff\xd9"
    for piece, told in [(colored, "3 components of 8 bits; expected 1 of 8"), (half, "damaged at x 0, y 0")]:
        assert len(piece) == sizes[0]
        path.write_bytes(good[: offsets[0]] + piece + good[offsets[0] + sizes[0] :])
        with (
            open_slide(path, background="metadata") as reader,
            pytest.raises(SlideProblem, match=told),
        ):
            read(reader, size=(TILE, TILE))

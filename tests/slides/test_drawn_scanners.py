"""Slides of scanners of which no file was at hand: drawn ones are known, and show what was drawn.

No scanner wrote these files: they hold what OpenSlide's documentation and readers ask for, no more.
"""

from contextlib import closing

import numpy as np
import pytest
import tifffile
from drawn_scanners import DRAWN, draw, painted, truth
from grid_tiffs import write_argos, write_huron
from overlapping_tiffs import AREAS, TRESTLE_SIZE, write_trestle, write_ventana
from zeiss_file import BGR24, BGR48, JPEG_XR, NONE, ZSTD0, ZSTD1, write_zeiss

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.core.units import Box
from wsi_kd.slides.frame import slide_center_nm
from wsi_kd.slides.info import describe_file
from wsi_kd.slides.mpp import resolve_mpp
from wsi_kd.slides.pyramid import ReadPlan
from wsi_kd.slides.reader import open_slide
from wsi_kd.slides.tile_source import open_tile_source

JPEG_DIFFERENCE = 2.0
"""Mean difference in gray levels; a pixel further it is more than twice that."""


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scanners")
    return {kind: draw(kind, folder) for kind in DRAWN}


def read(reader, x=0, y=0, *, size, level=0):
    return reader.read_region(x_level0_px=x, y_level0_px=y, level=level, width_px=size[0], height_px=size[1])


def difference(found, expected):
    return np.abs(found.astype(int) - expected).mean()


@pytest.mark.parametrize("kind", DRAWN)
def test_a_drawn_slide_is_known_and_described(slides, kind):
    drawn = DRAWN[kind]
    with open_slide(slides[kind], background="metadata") as reader:
        told = describe_file(reader)
        mpp = resolve_mpp(reader.properties, override=None, min_mpp=0.05, max_mpp=20.0, from_objective=False)
    assert told.facts.format == drawn.format
    assert told.facts.vendor == drawn.format.partition("/")[2]
    assert told.facts.objective == drawn.objective
    assert tuple((level.width_px, level.height_px) for level in told.levels) == drawn.levels
    downsamples = [drawn.levels[0][0] / width for width, _ in drawn.levels]
    assert [level.downsample for level in told.levels] == pytest.approx(downsamples, rel=5e-3)
    assert told.bounds == Box(*(drawn.bounds or (0, 0, *drawn.levels[0])))
    assert told.compression == drawn.compression
    assert set(told.associated) == drawn.associated
    assert (mpp.mpp_x, mpp.mpp_y, mpp.source, mpp.doubt) == (0.5, 0.5, drawn.source, "")


@pytest.mark.parametrize("kind", DRAWN)
def test_every_level_shows_what_was_drawn_where_it_was_drawn(slides, kind):
    drawn = DRAWN[kind]
    with open_slide(slides[kind], background="metadata") as reader:
        for level, size in enumerate(drawn.levels[:2]):
            found, expected = read(reader, size=size, level=level), truth(kind, level)
            assert difference(found, expected) <= (0 if drawn.is_lossless else JPEG_DIFFERENCE)
            assert difference(found[:, 1:], expected[:, :-1]) > 2 * JPEG_DIFFERENCE
            assert difference(found[1:], expected[:-1]) > 2 * JPEG_DIFFERENCE
        corner = read(reader, 611, 401, size=(203, 157))  # in no tile's corner, beyond many overlaps
        assert difference(corner, truth(kind)[401:558, 611:814]) <= JPEG_DIFFERENCE


def test_what_a_ventana_scanner_left_out_is_background(slides):
    left, right = AREAS
    with open_slide(slides["ventana"], background="metadata") as reader:
        between = read(reader, left.x + left.width, 0, size=(right.x - left.x - left.width, 680))
        above = read(reader, right.x, 0, size=(right.width, right.y))
    assert (between == 255).all()
    assert (above == 255).all()


def test_a_trestle_slide_names_its_background(slides):
    with open_slide(slides["trestle"], background="metadata") as reader:
        assert reader.background == (0xF0, 0xE6, 0xDC)
        assert (read(reader, 1024, 0, size=(8, 8)) == (0xF0, 0xE6, 0xDC)).all()


@pytest.mark.parametrize("kind", ["vms", "vmu", "ndpi"])
def test_hamamatsus_place_on_the_glass_is_known(slides, kind):
    with open_slide(slides[kind], background="metadata") as reader:
        assert slide_center_nm(reader.properties) == (2000.0, -1000.0)


def retagged(path, old, new):
    """Replace some bytes by as many others."""
    content = path.read_bytes()
    assert content.count(old) > 0
    assert len(old) == len(new)
    path.write_bytes(content.replace(old, new))
    return path


def test_what_a_ventana_slide_is_shows_without_its_metadata(tmp_path):
    """OpenSlide takes it for no slide at all; read page by page it would lie wrong."""
    path = write_ventana(tmp_path / "v.bif", painted())
    with pytest.raises(SlideProblem, match="of a Ventana scanner whose metadata OpenSlide cannot read"):
        open_slide(retagged(path, b"<iScan ", b"<iSc&n "), background="metadata")


def test_a_trestle_slide_without_its_overlaps_is_not_taken_for_a_plain_tiff(tmp_path):
    """Tag 270 holds them; without it OpenSlide takes the slide for a plain tiled TIFF."""
    path = write_trestle(tmp_path / "t.tif", painted()[: TRESTLE_SIZE[1]])
    with tifffile.TiffFile(path) as tiff:
        places = [page.tags["ImageDescription"].offset for page in tiff.pages]
    content = bytearray(path.read_bytes())
    for place in places:
        content[place : place + 2] = (269).to_bytes(2, "little")  # DocumentName
    path.write_bytes(content)
    with pytest.raises(SlideProblem, match="of a Trestle scanner whose metadata OpenSlide cannot read"):
        open_slide(path, background="metadata")


@pytest.mark.parametrize(("kind", "planes"), [("huron", 1), ("argos", 1), ("argos", 3)])
def test_plain_grids_are_read_by_offset_and_stacks_by_openslide(tmp_path, kind, planes):
    if kind == "huron":
        path = write_huron(tmp_path / "i.tif", painted())
    else:
        path = write_argos(tmp_path / "a.avs", painted(), planes=planes)
    coords = np.array([[0, 0], [37, 300], [500, 411], [896, 640]])
    plan = ReadPlan(0, 128, 128, 128.0, 128.0)
    with (
        open_slide(path, background="metadata") as reader,
        closing(open_tile_source(reader, plan, coords)) as source,
    ):
        assert ("by offset" in source.how) == (planes == 1)
        for x, y in coords.tolist():
            assert np.array_equal(source.read(x, y), read(reader, x, y, size=(128, 128)))


@pytest.mark.parametrize("joint", ["LEFT", "DOWN"])
def test_a_ventana_slide_that_openslide_refuses_is_not_read_page_by_page(tmp_path, joint):
    """Its page holds the tiles beside each other, each with what its neighbor shows as well."""
    path = write_ventana(tmp_path / "v.bif", painted(), up=joint)
    with pytest.raises(SlideProblem, match=f'Bad direction attribute "{joint}"') as problem:
        open_slide(path, background="metadata")
    assert problem.value.status == SlideStatus.UNREADABLE


def test_another_resolution_is_another_number(tmp_path):
    write_trestle(tmp_path / "t.tif", painted()[: TRESTLE_SIZE[1]], mpp=0.23)
    with open_slide(tmp_path / "t.tif", background="metadata") as reader:
        found = resolve_mpp(reader.properties, override=None, min_mpp=0.05, max_mpp=20.0, from_objective=True)
    assert found.mpp == pytest.approx(0.23, rel=1e-6)


@pytest.mark.parametrize("depth", [BGR24, BGR48])
@pytest.mark.parametrize("compression", [NONE, ZSTD0, ZSTD1])
def test_zeiss_pixels_are_the_same_however_they_are_stored(tmp_path, compression, depth):
    path = write_zeiss(tmp_path / "z.czi", painted()[:192, :256], compression=compression, depth=depth)
    with open_slide(path, background="metadata") as reader:
        assert np.array_equal(read(reader, size=(256, 192)), painted()[:192, :256])


def test_zeiss_in_jpeg_xr_is_refused_with_what_helps(tmp_path):
    path = write_zeiss(tmp_path / "z.czi", painted()[:192, :256], compression=JPEG_XR)
    with pytest.raises(
        SlideProblem, match=r"JPEG XR compression is not supported.*bfconvert in\.czi"
    ) as problem:
        open_slide(path, background="metadata")
    assert problem.value.status == SlideStatus.UNREADABLE

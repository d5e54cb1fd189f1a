"""The pyramid against the map it shows, read back by OpenSlide, tifffile and our own reader."""

from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import openslide
import pytest
import tifffile
from matplotlib import colormaps

from wsi_kd.core.errors import BadInput
from wsi_kd.inference.mappings import MAPPINGS, MappedTiles
from wsi_kd.report.overlay import DARKEST, OPACITY, place_tiles
from wsi_kd.report.overlay_tiff import TILE_PX, Overlay, overlay_levels, write_overlay_tiff
from wsi_kd.report.overlay_xml import overlay_xml
from wsi_kd.slides.mpp import resolve_mpp
from wsi_kd.slides.ome_xml import parse_ome
from wsi_kd.slides.pyramid import read_thumbnail, read_tile
from wsi_kd.slides.reader import open_slide

LIMITS = {"override": None, "min_mpp": 0.05, "max_mpp": 20.0, "from_objective": True}
MPP = 0.5


def mapped(scores, *, key="student_probability", name="student probability"):
    what = MAPPINGS[key]
    return MappedTiles(
        key, name, what.unit, np.array(scores, float), vmin=0.0, vmax=1.0, meaning=what.meaning
    )


def overlay(origin, *, um_per_px=0.5, slide_id="slide_1"):
    """Three tiles of 256 px; the second and third overlap by half."""
    coords = np.array([[0, 0], [256, 256], [384, 256]], np.int64) + np.array(origin)
    scores = mapped([0.0, 1.0, 0.5])
    tiles = place_tiles(coords, scores.scores, tile_level0_px=256.0)
    return Overlay(slide_id, tiles, scores, MPP, um_per_px)


def write(path, slide, **changes):
    with open_slide(slide.path, background="metadata") as reader:
        write_overlay_tiff(path, reader, overlay(slide.origin, **changes))
    return path


def color_of(value, gray):
    """What a pixel of this gray (0-255) and score looks like."""
    pale = DARKEST + (1 - DARKEST) * gray / 255
    return 255 * (OPACITY * np.array(colormaps["viridis"](value)[:3]) + (1 - OPACITY) * pale)


@pytest.mark.parametrize("kind", ["tumor", "bounds"])
def test_every_level_shows_each_score_at_its_place(synthetic_slide, tmp_path, kind):
    slide = synthetic_slide(kind)
    path = write(tmp_path / "o.ome.tiff", slide)
    with tifffile.TiffFile(path) as tiff:
        levels = [level.asarray() for level in tiff.series[0].levels]
    assert [level.shape for level in levels] == [(768, 1024, 3), (384, 512, 3)]
    with open_slide(slide.path, background="metadata") as reader:
        pixels = read_thumbnail(reader, slide_mpp=MPP, thumbnail_mpp=MPP).pixels
    gray = pixels @ np.array([0.299, 0.587, 0.114])
    places = {(20, 20): 0.0, (300, 300): 1.0, (300, 450): 0.75, (300, 600): 0.5}
    for (y, x), value in places.items():
        for scale, level in enumerate(levels):
            found = level[(y >> scale) - 4 : (y >> scale) + 4, (x >> scale) - 4 : (x >> scale) + 4]
            step = 2**scale
            below = gray[y - 4 * step : y + 4 * step, x - 4 * step : x + 4 * step].mean()
            assert np.abs(found.mean(axis=(0, 1)) - color_of(value, below)).max() < 4, (y, x, scale)
    bare = levels[0][600:700, 20:120].astype(int)
    assert (bare.max(axis=2) - bare.min(axis=2)).max() <= 4  # gray where no tile lies
    # The edge of the first tile lies between columns 255 and 256, a third below each in red.
    step = np.abs(np.diff(levels[0][100:150, 240:272].astype(float).mean(axis=(0, 2))))
    assert step.argmax() == 15


def test_a_few_pixels_for_the_whole_slide_are_read_without_going_far_beyond_it(
    synthetic_slide, tmp_path, monkeypatch
):
    """512 x 384 um at 200 um/px are 3 x 2 pixels: a whole tile of 512 would be 200 slides wide."""
    slide = synthetic_slide("tumor")
    asked = []

    def watched(reader, *, plan, **corner):
        asked.append(plan.tile_level0_px)
        return read_tile(reader, plan=plan, **corner)

    monkeypatch.setattr("wsi_kd.report.overlay_tiff.read_tile", watched)
    path = write(tmp_path / "o.ome.tiff", slide, um_per_px=200.0)
    with tifffile.TiffFile(path) as tiff:
        found = tiff.series[0].asarray()
    assert found.shape == (2, 3, 3)
    assert asked == [1200.0]
    with open_slide(slide.path, background="metadata") as reader:
        pixels = read_thumbnail(reader, slide_mpp=MPP, thumbnail_mpp=MPP).pixels
    gray = (pixels[:400, :400] @ np.array([0.299, 0.587, 0.114])).mean()
    pale = 255 * (DARKEST + (1 - DARKEST) * gray / 255)
    assert pale * (1 - OPACITY) - 8 < found[0, 0].mean() < pale + 8


@pytest.mark.parametrize("um_per_px", [0.5, 0.7, 2.0])
def test_openslide_tifffile_and_our_reader_know_its_resolution(synthetic_slide, tmp_path, um_per_px):
    path = write(tmp_path / "o.ome.tiff", synthetic_slide("tumor"), um_per_px=um_per_px)
    size = (round(np.ceil(512 / um_per_px)), round(np.ceil(384 / um_per_px)))
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == size
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(um_per_px, rel=1e-6)
    with open_slide(path, background="metadata") as reader:
        assert reader.format == "tiff/ome"
        assert reader.level_dimensions[0] == size
        assert resolve_mpp(reader.properties, **LIMITS).mpp == pytest.approx(um_per_px, rel=1e-9)
        whole = reader.read_region(x_level0_px=0, y_level0_px=0, level=0, width_px=size[0], height_px=size[1])
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        assert tiff.pages[0].tilewidth == TILE_PX
        stored = tiff.series[0].asarray()
        per_cm = tiff.pages[0].tags["XResolution"].value
    assert np.abs(whole.astype(int) - stored).mean() < 1
    assert 1e4 * per_cm[1] / per_cm[0] == pytest.approx(um_per_px, rel=1e-6)


def test_levels_halve_down_to_one_tile():
    levels = overlay_levels(100_001, 50_000, level0_px_per_px=4.0)
    assert levels[0] == (25_001, 12_500, 4.0)
    assert all(one.width_px == -(-before.width_px // 2) for before, one in pairwise(levels))
    assert max(levels[-1][:2]) <= TILE_PX < max(levels[-2][:2])
    assert overlay_levels(3, 1, level0_px_per_px=8.0) == [(1, 1, 8.0)]


def test_equal_overlays_are_equal_files_and_nothing_is_left_beside_them(synthetic_slide, tmp_path):
    first, second = (
        write(tmp_path / name, synthetic_slide("tumor")) for name in ("a.ome.tiff", "b.ome.tiff")
    )
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ome.tiff", "b.ome.tiff"]


def test_a_folder_that_cannot_be_written_is_one_clear_error(synthetic_slide, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"o\.ome\.tiff"):
        write(tmp_path / "file" / "o.ome.tiff", synthetic_slide("tumor"))


@pytest.mark.parametrize("slide_id", ["slide_1", "<Image>&\"'", "片\x00\x1b\u202e", "x" * 300])
def test_the_xml_names_the_mapping_whatever_the_slide_is_called(slide_id):
    name = f"student probability: {slide_id}"
    text = overlay_xml(slide_id, mapped([0.1], name=name), (640, 480), um_per_px=1.25).decode()
    (image,) = parse_ome(text, pages=1)
    assert (image.planes, image.physical_size["PhysicalSizeX"]) == ((0,), "1.25")
    assert image.is_fluorescence is False
    root = ElementTree.fromstring(text)
    space = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"
    told = {entry.get("K"): entry.text for entry in root.iter(f"{space}M")}
    assert told["mapping"] == "student_probability"
    assert told["name"].startswith("student probability: ")
    assert (told["vmin"], told["vmax"]) == ("0.0", "1.0")
    assert "Research only" in next(root.iter(f"{space}Description")).text

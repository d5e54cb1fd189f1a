"""The pyramid of tiles: openslide.deepzoom's geometry, exact pixels, the same for every reader."""

from pathlib import Path

import numpy as np
import openslide
import pytest
import tiff_files
from openslide.deepzoom import DeepZoomGenerator
from PIL import Image

from wsi_kd.core.units import Box
from wsi_kd.slides.pyramid import resize_by
from wsi_kd.slides.reader import open_slide
from wsi_kd.viewer.deepzoom import (
    MAX_TILE_READ_PX,
    OVERLAP_PX,
    TILE_PX,
    DeepZoom,
    TileRead,
    deep_zoom,
    plan_tile,
    read_zoom_tile,
)


def header(bounds, *, sizes, downsamples=(1.0,)):
    """What geometry needs of a reader; the other members are there to be recognized as one."""
    texts = dict.fromkeys(("path", "format", "properties", "background", "associated", "icc_profile"))
    methods = dict.fromkeys(("close", "read_region", "__enter__", "__exit__"), print)
    members = {**texts, **methods}
    shape = {"bounds": bounds, "level_dimensions": sizes, "level_downsamples": downsamples}
    return type("Header", (), {**members, **shape})()


def addresses(zoom):
    for level in range(zoom.min_level, zoom.full_level + 1):
        columns, rows = zoom.tiles(level)
        for column, row in {(0, 0), (columns - 1, rows - 1), (columns // 2, rows // 2), (0, rows - 1)}:
            yield level, column, row


def read(reader, zoom, level, column, row):
    return read_zoom_tile(reader, plan_tile(reader, zoom, level=level, column=column, row=row))


def stitched(reader, zoom, level):
    """A whole level from its tiles, their overlaps cut off."""
    width, height = zoom.zoom_sizes[level]
    whole = np.zeros((height, width, 3), np.uint8)
    columns, rows = zoom.tiles(level)
    for column in range(columns):
        for row in range(rows):
            tile = read(reader, zoom, level, column, row)
            left, top = OVERLAP_PX * (column > 0), OVERLAP_PX * (row > 0)
            x, y = column * TILE_PX, row * TILE_PX
            part = tile[top : top + TILE_PX, left : left + TILE_PX][: height - y, : width - x]
            whole[y : y + part.shape[0], x : x + part.shape[1]] = part
    return whole


def assert_like_openslide(path, *, same_levels):
    """Compare with openslide.deepzoom; `same_levels`: downsamples are exact, so both read the same level."""
    generator = DeepZoomGenerator(openslide.OpenSlide(path), TILE_PX, OVERLAP_PX, limit_bounds=True)
    with open_slide(path, background="metadata") as reader:
        zoom = deep_zoom(reader)
        assert zoom.zoom_sizes == generator.level_dimensions
        unscaled = 0
        for level, column, row in addresses(zoom):
            assert zoom.tiles(level) == generator.level_tiles[level]
            planned = plan_tile(reader, zoom, level=level, column=column, row=row)
            corner, stored, size = generator.get_tile_coordinates(level, (column, row))
            assert planned.tile_px == generator.get_tile_dimensions(level, (column, row))
            assert planned.corner == corner
            if not same_levels and planned.level != stored:
                continue
            assert (planned.level, planned.size_px) == (stored, size)
            if planned.scale == 1:
                unscaled += 1
                tile = read_zoom_tile(reader, planned)
                assert np.array_equal(tile, np.asarray(generator.get_tile(level, (column, row))))
        assert unscaled > 3


@pytest.mark.parametrize("kind", ["tumor", "bounds", "transparent"])
def test_geometry_and_pixels_are_those_of_openslide(synthetic_slide, kind: str) -> None:
    assert_like_openslide(synthetic_slide(kind).path, same_levels=True)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "same_levels"),
    [
        ("wsi/CMU-1-Small-Region.svs", True),
        ("wsi/test3-DAPI-2-_387_.ndpi", True),
        ("derived/cmu1_small_4level_aperio.svs", False),
        ("derived/os2_ki67_4level_generic_mpp.tif", False),
    ],
)
def test_real_slides_are_cut_as_openslide_cuts_them(shared_data: Path, name: str, same_levels: bool) -> None:
    assert_like_openslide(shared_data / name, same_levels=same_levels)


def test_tiles_join_to_the_slide(synthetic_slide) -> None:
    """At full resolution the tiles are the bounds; at half of it the means of 2 x 2 pixels."""
    slide = synthetic_slide("bounds")
    with open_slide(slide.path, background="metadata") as reader:
        zoom, (x, y, width, height) = deep_zoom(reader), reader.bounds
        assert (x, y, width, height) == (2048, 1024, 1024, 768)
        pixels = reader.read_region(x_level0_px=x, y_level0_px=y, level=0, width_px=width, height_px=height)
        assert np.array_equal(stitched(reader, zoom, zoom.full_level), pixels)


def test_a_scan_without_overviews_is_scaled_exactly(tmp_path: Path) -> None:
    """Every reader, every scale: inner tiles hold the means over each pixel's exact footprint."""
    pixels = np.random.default_rng(0).integers(0, 255, (1100, 1060, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    with open_slide(tmp_path / "plain.png", background="white") as reader:
        zoom = deep_zoom(reader)
        assert (zoom.full_level, zoom.min_level, zoom.zoom_sizes[-2]) == (11, 0, (530, 550))
        inner = read(reader, zoom, 10, 1, 1).astype(int)
        first = 2 * (TILE_PX - OVERLAP_PX)
        expected = (
            pixels[first : first + 512, first : first + 512].reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))
        )
        assert np.abs(inner - expected).max() <= 0.5
        whole = stitched(reader, zoom, 9).astype(int)
        assert np.abs(whole - resize_by(pixels, 4.0).astype(int)).mean() < 1


def test_a_level_that_is_nearly_right_is_shown_as_stored() -> None:
    """4.0036 instead of 4: reading level 0 for it would cost 16 times the pixels."""
    reader = header(Box(0, 0, 20020, 20020), sizes=((20020, 20020), (5000, 5000)), downsamples=(1.0, 4.004))
    zoom = deep_zoom(reader)
    planned = plan_tile(reader, zoom, level=zoom.full_level - 2, column=3, row=0)
    assert planned == TileRead((3044, 0), 1, (256, 255), 1.0, (256, 255), at_edge=False)


def test_no_tile_is_made_from_more_pixels_than_allowed() -> None:
    """100,000 x 50,000 pixels without overviews: coarser than 16 pixels to one is left out."""
    reader = header(Box(0, 0, 100_000, 50_000), sizes=((100_000, 50_000),))
    zoom = deep_zoom(reader)
    assert zoom.full_level - zoom.min_level == 4
    largest = plan_tile(reader, zoom, level=zoom.min_level, column=1, row=1)
    assert largest.size_px == (4096, 4096)
    assert MAX_TILE_READ_PX == 4096 * 4096
    assert not zoom.has(zoom.min_level - 1, column=0, row=0)


def test_levels_halve_down_to_one_pixel() -> None:
    reader = header(Box(5, 7, 5, 3), sizes=((20, 20),))
    zoom = deep_zoom(reader)
    assert zoom == DeepZoom(((1, 1), (2, 1), (3, 2), (5, 3)), min_level=0)
    assert [zoom.downsample(level) for level in range(4)] == [8, 4, 2, 1]
    assert plan_tile(reader, zoom, level=3, column=0, row=0).corner == (5, 7)
    assert zoom.has(3, column=0, row=0)
    assert not zoom.has(3, column=1, row=0)
    assert not zoom.has(4, column=0, row=0)
    assert not zoom.has(3, column=-1, row=0)


def test_other_readers_serve_the_same_pixels(tmp_path: Path) -> None:
    pixels = tiff_files.draw_pixels()
    tiff_files.write_ome(tmp_path / "a.ome.tif", pixels, levels=2, tile=(64, 64))
    with open_slide(tmp_path / "a.ome.tif", background="white") as reader:
        assert reader.format == "tiff/ome"
        zoom = deep_zoom(reader)
        assert np.array_equal(stitched(reader, zoom, zoom.full_level), pixels)
        planned = plan_tile(reader, zoom, level=zoom.full_level - 1, column=0, row=0)
        assert planned.level == 1
        assert np.array_equal(read_zoom_tile(reader, planned), pixels[::2, ::2])

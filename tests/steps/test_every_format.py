"""The same pixels in every format: the same tissue, the same tiles, the same features, byte for byte."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from synthetic import HEIGHT_PX, WIDTH_PX, paint_slide

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.embed import embed_slide
from wsi_kd.steps.encoder import build_encoder
from wsi_kd.steps.mask import mask_slide
from wsi_kd.steps.tile import tile_slide

SETTINGS = parse_settings({"tile": {"tile_px": 64, "tile_mpp": 1.0}}, where="test")
CENTIMETER = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}  # 0.5 um/px
OME = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}


@pytest.fixture(scope="module")
def painted():
    return paint_slide(seed=0, with_tumor=True)


def write_tiff(path, pixels, **options):
    tifffile.imwrite(path, pixels, **{"photometric": "rgb", "metadata": None, **CENTIMETER, **options})


def write_ome(path, pixels):
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(pixels, tile=(256, 256), photometric="rgb", metadata=OME, compression="deflate")


def write_zarr(path, pixels):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(path, mode="w", zarr_format=3)
    array = group.create_array("0", shape=pixels.shape, chunks=(200, 300, 3), dtype="uint8")
    array[...] = pixels
    axes = [{"name": name, "unit": "micrometer"} for name in "yx"] + [{"name": "c"}]
    scale = [{"type": "scale", "scale": [0.5, 0.5, 1.0]}]
    dataset = {"path": "0", "coordinateTransformations": scale}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [dataset]}]}


WRITERS = {
    "openslide.tif": lambda path, pixels: write_tiff(path, pixels, tile=(256, 256)),
    "ome.tif": write_ome,
    "strips.tif": lambda path, pixels: write_tiff(path, pixels, rowsperstrip=37, compression="lzw"),
    "planar.tif": lambda path, pixels: write_tiff(
        path, np.moveaxis(pixels, -1, 0), planarconfig="separate", rowsperstrip=20
    ),
    "deep.tif": lambda path, pixels: write_tiff(path, pixels.astype(np.uint16) * 256 + 90),
    "picture.png": lambda path, pixels: Image.fromarray(pixels).save(path, dpi=(50800, 50800)),
    "slide.zarr": write_zarr,
}


def line_of(path):
    row = SlideRow("slide", path, "", "slide", "", None, None, "")
    tissue = mask_slide(row, SETTINGS)
    tiles = tile_slide(tissue, row, SETTINGS)
    features = embed_slide(tiles, row, build_encoder(SETTINGS.embed), settings=SETTINGS, workers=1)
    return tissue, tiles, features


@pytest.fixture(scope="module")
def expected(painted, tmp_path_factory):
    path = tmp_path_factory.mktemp("formats") / "openslide.tif"
    WRITERS[path.name](path, painted)
    return line_of(path)


@pytest.mark.parametrize("name", list(WRITERS)[1:])
def test_the_format_does_not_change_a_number(painted, expected, tmp_path, name):
    WRITERS[name](tmp_path / name, painted)
    tissue, tiles, features = line_of(tmp_path / name)
    assert tissue.header["status"] == "ok"
    assert tissue.header["slide_mpp"] == pytest.approx(0.5, rel=1e-3)
    assert tissue.tissue.symmetric_difference(expected[0].tissue).area / expected[0].tissue.area < 1e-3
    assert len(tiles.coords) == 20
    assert np.abs(tiles.coords - expected[1].coords).max() <= (1 if name == "picture.png" else 0)
    if name != "picture.png":  # pHYs is a whole number of pixels a meter: 0.50000x um/px
        assert np.array_equal(features.features, expected[2].features)


@pytest.mark.parametrize("name", list(WRITERS))
def test_a_slide_smaller_than_a_tile_ends_with_a_status(painted, tmp_path, name):
    WRITERS[name](tmp_path / name, np.ascontiguousarray(painted[400:416, 300:316]))
    tissue, tiles, features = line_of(tmp_path / name)
    assert tissue.header["status"] == "empty"
    assert "no tissue" in tissue.header["reason"]
    assert tiles.coords.shape == (0, 2)
    assert features.features.shape[0] == 0
    assert features.header["reason"] == tissue.header["reason"]


def test_channels_without_brightfield_end_empty_before_a_pixel_is_read(painted, tmp_path):
    gray = painted[..., 0]
    tifffile.imwrite(tmp_path / "a.ome.tif", np.stack([gray] * 5), metadata={"axes": "CYX"}, **CENTIMETER)
    tissue, _, features = line_of(tmp_path / "a.ome.tif")
    assert features.header["status"] == "empty"
    assert "5 channels" in tissue.header["reason"]


def test_three_dark_channels_end_empty_as_dark_field(tmp_path):
    spots = np.zeros((3, HEIGHT_PX, WIDTH_PX), np.uint8)
    spots[:, 100:140, 200:240] = 200
    tifffile.imwrite(tmp_path / "a.ome.tif", spots, metadata={"axes": "CYX"}, **CENTIMETER)
    tissue = line_of(tmp_path / "a.ome.tif")[0]
    assert tissue.header["status"] == "empty"
    assert "dark field" in tissue.header["reason"]


@pytest.mark.parametrize("name", ["ome.tif", "strips.tif"])
def test_damaged_pieces_are_counted_and_left_out(painted, expected, tmp_path, name):
    WRITERS[name](tmp_path / name, painted)
    row = SlideRow("slide", tmp_path / name, "", "slide", "", None, None, "")
    tiles = tile_slide(mask_slide(row, SETTINGS), row, SETTINGS)
    with tifffile.TiffFile(tmp_path / name) as tiff:
        page = tiff.pages[0]
        index = 4 if name == "ome.tif" else 9
        offset, size = page.dataoffsets[index], page.databytecounts[index]
    with (tmp_path / name).open("r+b") as handle:
        handle.seek(offset)
        handle.write(bytes(size))
    allowed = SETTINGS.embed.model_copy(update={"max_damaged_fraction": 0.9})
    settings = SETTINGS.model_copy(update={"embed": allowed})
    encoder = build_encoder(settings.embed)
    found = embed_slide(tiles, row, encoder, settings=settings, workers=1)
    damaged = found.header["damaged_tiles"]
    assert 0 < damaged < len(tiles.coords)
    assert len(found.coords) == len(tiles.coords) - damaged
    kept = (tiles.coords[:, None] == found.coords[None]).all(axis=2).any(axis=1)
    assert np.array_equal(found.features, expected[2].features[kept])
    strict = embed_slide(tiles, row, encoder, settings=SETTINGS, workers=1)
    assert (strict.header["status"], len(strict.coords)) == ("damaged_tiles", 0)
    assert "damaged" in json.dumps(strict.header["reason"])


@pytest.mark.slow
def test_a_scan_100000_px_wide_without_overviews_is_read_by_bands(tmp_path):
    """Its strips run over the whole width: they are decoded once, and memory is one band of them."""
    rows = np.full((640, 100_000, 3), 243, np.uint8)
    spots = np.random.default_rng(0).integers(0, 90, (10, 75, 3), dtype=np.uint8) + np.uint8([150, 40, 120])
    rows[100:500, 40_000:43_000] = np.repeat(np.repeat(spots, 40, axis=0), 40, axis=1)
    write_tiff(tmp_path / "wide.tif", rows, rowsperstrip=64, compression="lzw")
    row = SlideRow("slide", tmp_path / "wide.tif", "", "slide", "", None, None, "")
    tissue = mask_slide(row, SETTINGS)
    assert (tissue.header["status"], tissue.header["level0_width"]) == ("ok", 100_000)
    left, top, right, bottom = tissue.tissue.bounds
    assert (left, right) == pytest.approx((40_000, 43_000), abs=150)
    assert (top, bottom) == pytest.approx((100, 500), abs=150)

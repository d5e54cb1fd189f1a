from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile
from PIL import Image

from wsi_kd.core.errors import BadInput
from wsi_kd.core.units import Box
from wsi_kd.tissue.edited import check_edited, read_edited
from wsi_kd.tissue.edited_files import find_edited
from wsi_kd.tissue.raster_mask import raster_outline, read_raster_mask

LABELS = np.array([[0, 0, 2, 2], [0, 7, 7, 0], [0, 0, 0, 0]], np.uint8)


def save(path, values, **options):
    if path.suffix == ".png":
        Image.fromarray(values).save(path)
    else:
        tifffile.imwrite(path, values, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.tiff"])
@pytest.mark.parametrize(
    "values",
    [
        LABELS,
        LABELS > 0,
        (LABELS > 0).astype(np.uint8) * 255,
        np.stack([LABELS] * 3, axis=-1),
        np.dstack([np.stack([LABELS] * 3, axis=-1), np.full_like(LABELS, 255)]),
    ],
    ids=["labels", "binary", "255", "gray RGB", "gray RGBA"],
)
def test_what_is_not_0_is_tissue(tmp_path, name, values):
    if name != "a.png" and values.dtype == bool:
        values = values.astype(np.uint8)
    options = {"photometric": "rgb"} if values.ndim == 3 else {}
    assert np.array_equal(read_raster_mask(save(tmp_path / name, values, **options)), LABELS > 0)


def test_of_a_pyramid_the_finest_level_that_is_small_enough_is_read(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    fine = np.kron(LABELS, np.ones((16, 16), np.uint8))
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(fine, subifds=1, tile=(16, 16))
        tiff.write(fine[::2, ::2], subfiletype=1, tile=(16, 16))
    assert read_raster_mask(path).shape == (48, 64)
    monkeypatch.setattr("wsi_kd.tissue.raster_mask.MAX_MASK_PX", 24 * 32)
    assert np.array_equal(read_raster_mask(path), fine[::2, ::2] > 0)
    monkeypatch.setattr("wsi_kd.tissue.raster_mask.MAX_MASK_PX", 24 * 32 - 1)
    with pytest.raises(BadInput, match=r"32x24 px, a mask has .* export it at a lower resolution"):
        read_raster_mask(path)


def test_colors_and_files_that_are_no_picture_are_refused(tmp_path):
    colored = np.zeros((3, 4, 3), np.uint8)
    colored[1, 2] = (255, 0, 0)
    with pytest.raises(BadInput, match="with color; expected one channel"):
        read_raster_mask(save(tmp_path / "a.png", colored))
    for name in ("b.png", "b.tif"):
        (tmp_path / name).write_bytes(b"no picture at all")
        with pytest.raises(BadInput, match=rf"{name}: not readable as a mask"):
            read_raster_mask(tmp_path / name)
        with pytest.raises(BadInput, match=name):
            check_edited(tmp_path / name)


def outline(mask, *, whole=(400, 300), bounds=None):
    return raster_outline(
        mask,
        level0_width_px=whole[0],
        level0_height_px=whole[1],
        bounds=bounds or Box(0, 0, *whole),
        where=Path("a.png"),
    )


def test_a_mask_of_the_whole_slide_is_scaled_to_it():
    found, pixel = outline(LABELS > 0)
    expected = shapely.union_all([shapely.box(200, 0, 400, 100), shapely.box(100, 100, 300, 200)])
    assert shapely.equals(found, expected)
    assert pixel == 100.0


def test_a_mask_of_the_bounds_is_laid_over_them():
    found, _ = outline(np.ones((30, 20), bool), bounds=Box(50, 40, 200, 300), whole=(1000, 700))
    assert found.bounds == (50, 40, 250, 340)


@pytest.mark.parametrize("size", [(74, 99), (75, 100), (76, 101), (38, 50), (37, 51)])
def test_sizes_rounded_either_way_fit(size):
    """300 x 400 px reduced by 4 or 8, a row more or less."""
    found, _ = outline(np.ones(size, bool))
    assert found.bounds == pytest.approx((0, 0, 400, 300))


def test_another_shape_is_refused_with_the_sizes():
    with pytest.raises(
        BadInput, match=r"a\.png: a mask of 100x100 px; the slide has 400x300.*no single scale"
    ):
        outline(np.ones((100, 100), bool))


@pytest.mark.parametrize("shape", [(1, 1), (2, 40), (40, 2)])
def test_a_mask_too_small_to_tell_what_it_lies_over_is_refused(shape):
    with pytest.raises(BadInput, match=f"a mask of {shape[1]}x{shape[0]} px is too small.*3 px or more"):
        raster_outline(
            np.ones(shape, bool),
            level0_width_px=1000,
            level0_height_px=1000,
            bounds=Box(0, 0, 1000, 1000),
            where=Path("a.png"),
        )


def test_a_mask_that_fits_slide_and_bounds_is_refused():
    with pytest.raises(BadInput, match="fits both and they differ"):
        outline(np.ones((75, 100), bool), bounds=Box(10, 10, 200, 150))


def test_the_edited_file_of_a_slide_is_one(tmp_path):
    assert find_edited(tmp_path, "a") is None
    mask = save(tmp_path / "a.png", LABELS)
    assert find_edited(tmp_path, "a") == mask
    (tmp_path / "a.geojson").write_text("{}")
    with pytest.raises(BadInput, match=r"a\.geojson, a\.png for one slide"):
        find_edited(tmp_path, "a")


def test_edited_tissue_is_read_from_masks_and_from_geojson(tmp_path):
    size = {"level0_width_px": 400, "level0_height_px": 300, "bounds": Box(0, 0, 400, 300)}
    raster = read_edited(save(tmp_path / "a.png", LABELS), **size)
    assert raster.outline.area == 4 * 100 * 100
    assert raster.tolerance_level0_px == 75.0
    (tmp_path / "a.geojson").write_text(shapely.to_geojson(shapely.box(1, 2, 11, 22)))
    drawn = read_edited(tmp_path / "a.geojson", **size)
    assert (drawn.outline.area, drawn.tolerance_level0_px) == (200, 0.0)


def test_values_that_are_no_numbers_are_not_tissue(tmp_path):
    with pytest.raises(BadInput, match="not finite"):
        read_raster_mask(save(tmp_path / "a.tif", np.full((3, 4), np.nan, np.float32)))


def test_a_jpeg_is_no_mask_whatever_its_name(tmp_path):
    """Its ringing would be tissue."""
    Image.fromarray(LABELS).save(tmp_path / "a.png", "JPEG")
    with pytest.raises(BadInput, match="cannot identify image file"):
        read_raster_mask(tmp_path / "a.png")


def test_pictures_too_large_to_open_are_refused_by_name(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", LABELS)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    with pytest.raises(BadInput, match=r"a\.png: not readable as a mask"):
        read_raster_mask(path)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_damaged_bytes_are_one_line(tmp_path, name):
    """Damaged headers make tifffile divide by zero and Pillow raise SyntaxError."""
    options = {} if name == "a.png" else {"tile": (16, 16), "compression": "zlib"}
    whole = save(tmp_path / name, np.kron(LABELS, np.ones((8, 8), np.uint8)), **options).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        spoiled = np.frombuffer(whole, np.uint8).copy()
        spoiled[rng.integers(0, min(len(whole), 300), 2)] = rng.integers(0, 256, 2)
        (tmp_path / name).write_bytes(spoiled.tobytes())
        try:
            read_raster_mask(tmp_path / name)
        except BadInput:
            refused += 1
    assert refused > 75

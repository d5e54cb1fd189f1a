import json

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_kd.core.errors import BadInput
from wsi_kd.core.provenance import stamp
from wsi_kd.core.units import Box
from wsi_kd.tissue.edited import read_edited_tissue
from wsi_kd.tissue.polygons import (
    SIMPLIFY_PX,
    ChangedTissue,
    Mark,
    TissueFile,
    mask_to_polygons,
    read_tissue,
    tidy_polygons,
    tissue_hash,
    write_tissue,
)


def tissue_file(tissue, *, bounds=(0, 0, 1000, 800)):
    header = {**stamp("mask", {}), "slide_id": "a", "status": "ok", "bounds": list(bounds)}
    return TissueFile("a", tissue, header)


def test_outline_runs_along_pixel_edges():
    mask = np.zeros((4, 5), bool)
    mask[1:3, 1:4] = True
    mask[2, 2] = False
    found = mask_to_polygons(mask, level0_px_per_px=10.0, origin=(100, 200))
    expected = shapely.box(110, 210, 140, 230) - shapely.box(120, 220, 130, 230)
    assert shapely.equals(found, expected)
    assert found.area == 500.0


def test_holes_stay_holes():
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    found = mask_to_polygons(mask, level0_px_per_px=1.0, origin=(0, 0))
    assert found.area == 24.0
    assert len(found.geoms) == 1
    assert len(found.geoms[0].interiors) == 1


def test_no_pixel_gives_no_polygon():
    assert mask_to_polygons(np.zeros((3, 3), bool), level0_px_per_px=2.0, origin=(5, 5)).is_empty


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12))
def test_any_mask_keeps_its_area_and_pixels(seed, height, width):
    mask = np.random.default_rng(seed).random((height, width)) > 0.5
    found = mask_to_polygons(mask, level0_px_per_px=4.0, origin=(7, 9))
    assert found.is_valid
    assert found.area == mask.sum() * 16.0
    rows, columns = np.indices(mask.shape)
    centers = shapely.points(7 + 4 * (columns + 0.5), 9 + 4 * (rows + 0.5))
    assert np.array_equal(shapely.contains(found, centers), mask)


def test_tidy_straightens_keeps_the_area_and_the_bounds():
    rows, columns = np.indices((120, 120))
    mask = (rows - 60) ** 2 + (columns - 60) ** 2 < 50**2
    outline = mask_to_polygons(mask, level0_px_per_px=16.0, origin=(0, 0))
    tidy = tidy_polygons(outline, tolerance_level0_px=SIMPLIFY_PX * 16, bounds=Box(0, 0, 1920, 1920))
    assert shapely.get_num_coordinates(tidy) < shapely.get_num_coordinates(outline) / 2
    assert tidy.area == pytest.approx(outline.area, rel=0.01)
    cut = tidy_polygons(outline, tolerance_level0_px=0.0, bounds=Box(960, 0, 960, 1920))
    assert cut.bounds[0] == 960.0
    assert cut.area == pytest.approx(outline.area / 2, rel=0.02)


def test_file_round_trip_is_exact_and_in_qupath_frame(tmp_path):
    rows, columns = np.indices((60, 60))
    mask = (rows - 30) ** 2 + (columns - 30) ** 2 < 25**2
    mask &= ~((rows - 30) ** 2 + (columns - 30) ** 2 < 8**2)
    origin = (2051, 1027)
    outline = mask_to_polygons(mask, level0_px_per_px=16.0320641, origin=origin)
    bounds = Box(*origin, 960, 960)
    tissue = tidy_polygons(outline, tolerance_level0_px=12.0, bounds=bounds)
    file = tissue_file(tissue, bounds=bounds)
    path = tmp_path / "a.geojson"
    write_tissue(path, file)
    again = read_tissue(path)
    assert again.header == file.header
    assert shapely.get_coordinates(again.tissue).tolist() == shapely.get_coordinates(tissue).tolist()
    assert again.tissue.area == tissue.area
    assert tissue_hash(again) == tissue_hash(file)
    value = json.loads(path.read_text())
    feature = value["features"][0]
    assert feature["properties"]["classification"]["name"] == "Tissue"
    assert feature["properties"]["objectType"] == "annotation"
    written = shapely.geometry.shape(feature["geometry"])
    assert written.bounds == tuple(np.subtract(tissue.bounds, (*origin, *origin)))


def test_empty_tissue_round_trip(tmp_path):
    file = tissue_file(shapely.MultiPolygon())
    write_tissue(tmp_path / "a.geojson", file)
    assert read_tissue(tmp_path / "a.geojson").tissue.is_empty


def test_edits_in_place_are_refused_with_the_remedy(tmp_path):
    path = tmp_path / "a.geojson"
    write_tissue(path, tissue_file(shapely.MultiPolygon([shapely.box(0, 0, 10, 10)])))
    value = json.loads(path.read_text())
    value["features"][0]["geometry"]["coordinates"][0][0][0] += 1
    path.write_text(json.dumps(value))
    with pytest.raises(
        ChangedTissue, match=r"put an edited outline as <slide_id>\.geojson into mask\.edited_dir"
    ):
        read_tissue(path)
    del value["wsi_kd"]
    path.write_text(json.dumps(value))
    with pytest.raises(ChangedTissue, match="no member 'wsi_kd'"):
        read_tissue(path)


@pytest.mark.parametrize(
    ("change", "told"),
    [({"schema_version": 99}, "schema version 99"), ({"kind": "tiles"}, "holds 'tiles'")],
)
def test_other_schemas_are_refused(tmp_path, change, told):
    file = tissue_file(shapely.MultiPolygon())
    write_tissue(tmp_path / "a.geojson", file._replace(header={**file.header, **change}))
    with pytest.raises(BadInput, match=told):
        read_tissue(tmp_path / "a.geojson")


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000])
def test_damaged_files_are_refused(tmp_path, content):
    (tmp_path / "a.geojson").write_text(content)
    with pytest.raises(BadInput, match=r"a\.geojson: not valid JSON"):
        read_tissue(tmp_path / "a.geojson")
    with pytest.raises(BadInput, match="no such file"):
        read_tissue(tmp_path / "b.geojson")


def test_marks_lie_beside_the_tissue_and_come_back_bit_for_bit(tmp_path):
    file = tissue_file(shapely.MultiPolygon([shapely.box(10, 10, 50, 50)]), bounds=(5, 7, 900, 700))
    pen = shapely.MultiPolygon([shapely.box(60, 60, 90.125, 70), shapely.box(100, 0, 110, 9)])
    marked = file._replace(
        marks=(Mark("Pen", pen), Mark("Fold", shapely.MultiPolygon([shapely.box(20, 20, 30, 30)])))
    )
    write_tissue(tmp_path / "a.geojson", marked)
    again = read_tissue(tmp_path / "a.geojson")
    assert again.tissue.area == 1600.0
    assert [mark.name for mark in again.marks] == ["Pen", "Fold"]
    assert shapely.get_coordinates(again.marks[0].area).tolist() == shapely.get_coordinates(pen).tolist()
    assert tissue_hash(again) == tissue_hash(marked) != tissue_hash(file)
    outline = read_edited_tissue(tmp_path / "a.geojson", origin=(5, 7))
    assert outline.area == 1600.0  # a mask put into mask.edited_dir: pen is no tissue

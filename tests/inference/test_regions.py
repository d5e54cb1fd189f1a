"""Merged regions against hand-worked polygons and against the score map that heatmaps are drawn from."""

import json
import uuid

import numpy as np
import pytest
import shapely
from shapely.geometry import box

from wsi_kd.inference.mappings import tile_mapping
from wsi_kd.inference.region_file import Outlined, write_regions_geojson
from wsi_kd.inference.regions import BLOCK_TILES, merged_regions
from wsi_kd.inference.tables import TileTable
from wsi_kd.report.overlay import score_map
from wsi_kd.tissue.drawing import Area
from wsi_kd.tissue.geojson import read_features


def regions(coords, scores, *, edge=256.0, threshold=0.5, mpp=0.5):
    return merged_regions(
        np.array(coords, np.int64).reshape(-1, 2),
        np.array(scores, np.float64),
        tile_level0_px=edge,
        threshold=threshold,
        slide_mpp=mpp,
    )


def grid(columns, rows, stride):
    return [[column * stride, row * stride] for row in range(rows) for column in range(columns)]


def test_one_tile_is_its_square():
    (region,) = regions([[1000, 2000]], [0.7])
    assert region.polygon.equals(box(1000, 2000, 1256, 2256))
    assert (region.mean, region.max, region.tiles) == (0.7, 0.7, 1)
    assert region.area_mm2 == pytest.approx(0.128**2)


def test_a_ring_of_tiles_has_a_hole():
    scores = [0.6, 0.8, 0.6, 0.8, 0.1, 0.8, 0.6, 0.8, 0.6]
    (region,) = regions(grid(3, 3, 256), scores)
    assert region.polygon.equals(box(0, 0, 768, 768).difference(box(256, 256, 512, 512)))
    assert len(region.polygon.interiors) == 1
    assert len(region.polygon.exterior.coords) == 5  # no corner on a straight edge
    assert region.mean == pytest.approx(0.7)
    assert (region.max, region.tiles) == (0.8, 8)


def test_tiles_that_meet_at_a_corner_are_two_regions_and_the_larger_comes_first():
    found = regions([[0, 0], [256, 256], [512, 256]], [0.9, 0.6, 0.7])
    assert [region.tiles for region in found] == [2, 1]
    assert found[1].polygon.equals(box(0, 0, 256, 256))
    assert found[0].mean == pytest.approx(0.65)


def test_overlapping_tiles_are_averaged_before_the_threshold():
    # Along x: 0-128 only A (1.0), 128-256 both (0.5), 256-384 only B (0.0).
    (half,) = regions([[0, 0], [128, 0]], [1.0, 0.0], threshold=0.5)
    assert half.polygon.equals(box(0, 0, 256, 256))
    assert half.mean == pytest.approx(0.75)
    assert (half.max, half.tiles) == (1.0, 2)
    (alone,) = regions([[0, 0], [128, 0]], [1.0, 0.0], threshold=0.6)
    assert alone.polygon.equals(box(0, 0, 128, 256))
    assert (alone.mean, alone.tiles) == (1.0, 1)  # B only touches it


@pytest.mark.parametrize(("stride", "threshold"), [(30, 0.6), (10, 0.5), (20, 0.5)])
def test_regions_are_where_the_score_map_reaches_the_threshold(stride, threshold):
    rng = np.random.default_rng(stride)
    coords = np.array(grid(23, 19, stride)) - 100
    keep = rng.random(len(coords)) < 0.8
    coords, scores = coords[keep], rng.random(keep.sum())
    scores[::11] = np.nan
    found = regions(coords, scores, edge=30.0, threshold=threshold)
    shape = (2 * stride + 60, 3 * stride + 80)
    averages = score_map(
        coords, scores, tile_level0_px=30.0, level0_px_per_px=10.0, origin=(-100, -100), shape=shape
    )
    above = averages >= threshold
    assert sum(region.polygon.area for region in found) == pytest.approx(100 * above.sum())
    rows, columns = np.indices(shape)
    centers = shapely.points(columns * 10 - 95, rows * 10 - 95)
    inside = shapely.contains(shapely.union_all([region.polygon for region in found]), centers)
    np.testing.assert_array_equal(inside, above)
    for region in found[:5]:
        within = averages[shapely.contains(region.polygon, centers)]
        assert region.mean == pytest.approx(within.mean(), abs=1e-6)
        assert region.max == pytest.approx(within.max(), abs=1e-6)
        assert region.area_mm2 == pytest.approx(len(within) * 100 * 0.25 / 1e6)


def test_a_region_over_many_blocks_is_one_polygon():
    count = 3 * BLOCK_TILES + 1
    coords = np.array(grid(count, 2, 256)) - 5000
    (region,) = regions(coords, np.full(len(coords), 0.5))
    assert region.polygon.equals(box(-5000, -5000, -5000 + count * 256, -5000 + 512))
    assert len(region.polygon.exterior.coords) == 5
    assert (region.tiles, region.mean) == (len(coords), 0.5)


def test_edges_that_are_no_whole_pixels_leave_no_slivers():
    edge = 253.7
    coords = np.round(np.array(grid(40, 30, edge))).astype(np.int64)
    (region,) = regions(coords, np.full(len(coords), 0.9), edge=edge)
    assert len(region.polygon.interiors) == 0
    assert region.polygon.area == pytest.approx(1200 * edge**2, rel=1e-3)
    assert region.tiles == 1200
    assert region.mean == pytest.approx(0.9)


def test_three_equal_scores_at_the_threshold_reach_it():
    found = regions([[0, 0], [0, 0], [0, 0]], [0.1, 0.1, 0.1], threshold=0.1)
    assert [region.tiles for region in found] == [3]


@pytest.mark.parametrize("scores", [[np.nan, np.nan], [0.2, 0.4], []])
def test_nothing_above_the_threshold_is_no_region(scores):
    assert regions(grid(len(scores), 1, 256), scores) == []


def test_the_order_of_tiles_does_not_matter():
    rng = np.random.default_rng(3)
    coords, scores = np.array(grid(20, 20, 100)), rng.random(400)
    order = rng.permutation(400)
    for one, other in zip(regions(coords, scores), regions(coords[order], scores[order]), strict=True):
        assert one.polygon.equals(other.polygon)
        assert one.mean == pytest.approx(other.mean, abs=1e-12)


def test_tiles_that_lie_anyhow_are_outlined_within_an_eighth_of_a_tile():
    rng = np.random.default_rng(4)
    coords = rng.integers(0, 4000, (2000, 2))
    scores = (coords[:, 0] < 2000).astype(np.float64)
    area = sum(region.polygon.area for region in regions(coords, scores))
    averages = score_map(
        coords, scores, tile_level0_px=256.0, level0_px_per_px=4.0, origin=(0, 0), shape=(1064, 1064)
    )
    assert area == pytest.approx(16 * (averages >= 0.5).sum(), rel=0.02)


CLASSES = ("normal", "tumor")


def written(path, *, key="student_probability", origin=(1000, 2000), slide_id="s1", classes=CLASSES):
    tiles = TileTable(
        coords=np.array([[1000, 2000], [1256, 2000], [1000, 3000]]),
        tile_level0_px=256.0,
        attention=np.array([0.6, 0.3, 0.1]),
        branch_attention=None,
        evidence=np.array([[0.9], [0.7], [0.6]]),
        student_probability=np.array([[0.9], [0.7], [0.6]]),
        tile_labels=np.full(3, -1, np.int8),
    )
    mapped = tile_mapping(tiles, key)
    found = merged_regions(tiles.coords, mapped.scores, tile_level0_px=256.0, threshold=0.5, slide_mpp=0.5)
    write_regions_geojson(path, found, Outlined(slide_id, mapped, 0.5, origin, classes))
    return json.loads(path.read_text())["features"]


def test_the_file_is_what_qupath_reads(tmp_path):
    first, second = written(tmp_path / "r.geojson")
    assert shapely.geometry.shape(first["geometry"]).equals(box(0, 0, 512, 256))
    assert shapely.geometry.shape(second["geometry"]).equals(box(0, 1000, 256, 1256))
    properties = first["properties"]
    assert first["type"] == "Feature"
    assert properties["objectType"] == "annotation"
    assert properties["name"] == "student probability >= 0.5 (1)"
    assert properties["classification"] == {"name": "tumor", "color": [200, 40, 40]}
    assert properties["measurements"] == pytest.approx(
        {
            "student probability: mean": 0.8,
            "student probability: max": 0.9,
            "Threshold": 0.5,
            "Area mm^2": 2 * 0.128**2,
            "Tiles": 2,
        }
    )
    assert properties["metadata"]["mapping"] == properties["mapping"] == "student_probability"
    assert all(isinstance(value, str) for value in properties["metadata"].values())
    assert uuid.UUID(first["id"]).version == 5


def test_our_own_reader_of_annotations_puts_the_regions_back_into_level0(tmp_path):
    written(tmp_path / "r.geojson")
    value = json.loads((tmp_path / "r.geojson").read_text())
    items = list(read_features(value, origin=(1000, 2000), where="r"))
    assert all(isinstance(item, Area) for item in items)
    assert items[0].annotation.area.equals(box(1000, 2000, 1512, 2256))
    assert items[0].annotation.name == "tumor"


def test_attention_is_never_called_a_class(tmp_path):
    (feature,) = written(tmp_path / "r.geojson", key="attention_softmax")[:1]
    assert feature["properties"]["classification"]["name"] == "High attention"


def test_equal_regions_are_the_same_file_and_no_two_share_an_id(tmp_path):
    written(tmp_path / "a.geojson")
    written(tmp_path / "b.geojson")
    assert (tmp_path / "a.geojson").read_bytes() == (tmp_path / "b.geojson").read_bytes()
    ids = [
        feature["id"]
        for name, changes in {
            "a": {},
            "c": {"slide_id": "</script>\u2028"},
            "d": {"key": "teacher_evidence"},
        }.items()
        for feature in written(tmp_path / f"{name}.geojson", **changes)
    ]
    assert len(set(ids)) == len(ids) == 6


def test_no_region_is_an_empty_collection(tmp_path):
    mapped = tile_mapping(
        TileTable(
            np.zeros((1, 2), np.int64), 256.0, np.ones(1), None, np.zeros((1, 1)), None, np.zeros(1, np.int8)
        ),
        "teacher_evidence",
    )
    write_regions_geojson(tmp_path / "r.geojson", [], Outlined("s", mapped, 0.5, (0, 0), CLASSES))
    assert json.loads((tmp_path / "r.geojson").read_text()) == {"type": "FeatureCollection", "features": []}

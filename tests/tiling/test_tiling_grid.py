import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_kd.core.errors import BadInput
from wsi_kd.tiling.coverage import covered_fraction
from wsi_kd.tiling.grid import tile_grid
from wsi_kd.tiling.labels import is_named, label_tiles
from wsi_kd.tiling.spec import TileSpec
from wsi_kd.tissue.drawing import Annotation


def multi(*polygons):
    return shapely.MultiPolygon(list(polygons))


def grid(tissue, *, tile_px=10, overlap_px=0, slide_mpp=0.5, size=(100, 80), min_tissue_fraction=0.5):
    spec = TileSpec(tile_px=tile_px, tile_mpp=0.5, overlap_px=overlap_px, slide_mpp=slide_mpp)
    return tile_grid(
        tissue,
        spec,
        level0_width_px=size[0],
        level0_height_px=size[1],
        min_tissue_fraction=min_tissue_fraction,
    )


def test_tiles_come_in_scan_order_with_their_exact_share():
    found = grid(multi(shapely.box(10, 10, 35, 30)))
    assert found.coords.tolist() == [[10, 10], [20, 10], [30, 10], [10, 20], [20, 20], [30, 20]]
    assert found.tissue_fraction.tolist() == [1.0, 1.0, 0.5, 1.0, 1.0, 0.5]
    assert found.coords.dtype == np.int64
    assert found.tissue_fraction.dtype == np.float32


def test_minimum_fraction_is_inclusive_and_zero_means_any_tissue():
    tissue = multi(shapely.box(10, 10, 35, 30))
    assert len(grid(tissue, min_tissue_fraction=0.51).coords) == 4
    edge = multi(shapely.box(0, 0, 10.001, 10))
    assert grid(edge, min_tissue_fraction=0.0).coords.tolist() == [[0, 0], [10, 0]]


def test_tiles_lie_inside_the_slide():
    everywhere = multi(shapely.box(-50, -50, 200, 200))
    found = grid(everywhere, size=(99, 80))
    assert found.coords[:, 0].max() == 80
    assert found.coords[:, 1].max() == 70
    assert grid(everywhere, size=(100, 80)).coords[:, 0].max() == 90
    assert len(grid(everywhere, size=(9, 9)).coords) == 0


def test_overlap_shortens_the_step():
    found = grid(multi(shapely.box(0, 0, 100, 10)), overlap_px=6, size=(100, 10))
    assert found.coords[:, 0].tolist() == list(range(0, 92, 4))
    assert (found.tissue_fraction == 1).all()


def test_fractional_tiles_do_not_drift():
    found = grid(multi(shapely.box(0, 0, 5000, 12)), slide_mpp=0.499, size=(5000, 12))
    expected = np.round(np.arange(len(found.coords)) * 10 * 0.5 / 0.499)
    assert found.coords[:, 0].tolist() == expected.tolist()
    assert len(found.coords) == 499


def test_holes_and_pieces_count():
    ring = shapely.box(0, 0, 50, 50) - shapely.box(10, 10, 40, 40)
    found = grid(multi(ring, shapely.box(20, 20, 30, 30)))
    assert len(found.coords) == 25 - 9 + 1
    assert [20, 20] in found.coords.tolist()


def test_no_tissue_no_tiles():
    found = grid(multi())
    assert found.coords.shape == (0, 2)
    assert found.tissue_fraction.shape == (0,)


@pytest.mark.parametrize("overlap_px", [10, 11, -1])
def test_an_overlap_without_a_step_is_refused(overlap_px):
    with pytest.raises(BadInput, match="overlap_px"):
        grid(multi(shapely.box(0, 0, 50, 50)), overlap_px=overlap_px)


def test_a_grid_too_large_to_hold_is_refused():
    with pytest.raises(BadInput, match="too large"):
        grid(multi(shapely.box(0, 0, 50, 50)), size=(10**6, 10**6))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_fractions_equal_tile_by_tile_areas(seed):
    rng = np.random.default_rng(seed)
    area = shapely.union_all(
        shapely.buffer(shapely.points(rng.uniform(0, 400, (12, 2))), rng.uniform(5, 60, 12))
    ) - shapely.box(150, 150, 220, 260)
    coords = rng.integers(-20, 420, (300, 2))
    found = covered_fraction(coords, tile_level0_px=21.3, area=area)
    tiles = shapely.box(coords[:, 0], coords[:, 1], coords[:, 0] + 21.3, coords[:, 1] + 21.3)
    assert np.allclose(found, shapely.area(shapely.intersection(tiles, area)) / 21.3**2, atol=1e-9)


def test_sum_of_tile_areas_is_the_tissue_area():
    disk = shapely.Point(500, 400).buffer(300, quad_segs=64)
    found = grid(multi(disk), tile_px=10, size=(1000, 800), min_tissue_fraction=0.0)
    assert found.tissue_fraction.astype(float).sum() * 100 == pytest.approx(disk.area, rel=1e-6)


def label(coords, annotations, **changed):
    names = {"positive_names": ("tumor", "_0"), "exclude_names": ("ignore",), "label_rule": "area"}
    names["min_positive_fraction"] = 0.25
    return label_tiles(
        np.array(coords), tile_level0_px=10.0, annotations=annotations, **{**names, **changed}
    ).tolist()


def test_labels_by_share_of_positive_area():
    tumor = Annotation("Tumor", shapely.box(0, 0, 12.5, 10))
    coords = [[0, 0], [10, 0], [11, 0], [30, 0]]
    assert label(coords, [tumor]) == [1, 1, 0, 0]
    assert label(coords, [tumor], min_positive_fraction=0.0) == [1, 1, 1, 0]
    assert label(coords, [tumor], min_positive_fraction=1.0) == [1, 0, 0, 0]


def test_names_in_any_case_overlaps_once_and_exclusions_cut():
    twice = [Annotation("TUMOR", shapely.box(0, 0, 2, 10)), Annotation("_0", shapely.box(0, 0, 2, 10))]
    assert label([[0, 0]], twice) == [0]
    assert label([[0, 0]], [*twice, Annotation("tumor", shapely.box(2, 0, 4, 10))]) == [1]
    cut = [Annotation("tumor", shapely.box(0, 0, 10, 10)), Annotation("Ignore", shapely.box(0, 0, 10, 8))]
    assert label([[0, 0]], cut) == [0]
    assert label([[0, 0]], [Annotation("Stroma", shapely.box(0, 0, 10, 10))]) == [0]


def test_labels_of_no_tiles_and_of_no_annotations():
    assert label_tiles(
        np.empty((0, 2), np.int64),
        tile_level0_px=10.0,
        annotations=[],
        positive_names=("tumor",),
        exclude_names=(),
        label_rule="area",
        min_positive_fraction=0.5,
    ).shape == (0,)
    assert label([[0, 0]], []) == [0]


def test_the_center_rule_asks_for_the_tiles_middle_alone():
    tumor = Annotation("Tumor", shapely.box(0, 0, 15, 10) - shapely.box(4, 4, 6, 6))
    coords = [[0, 0], [10, 0], [11, 0], [9, 0], [20, 0]]
    # centers at x 5 (in the hole), 15 (on the outline), 16, 14, 25; all at y 5
    assert label(coords, [tumor], label_rule="center") == [0, 1, 0, 1, 0]
    assert label(coords, [tumor], label_rule="area", min_positive_fraction=0.95) == [1, 0, 0, 0, 0]
    assert label([[0, 0]], [tumor], label_rule="center", min_positive_fraction=1.0) == [0]
    assert label([[0, 0]], [], label_rule="center") == [0]


def test_center_labels_of_no_tiles():
    assert label_tiles(
        np.empty((0, 2), np.int64),
        tile_level0_px=10.0,
        annotations=[Annotation("tumor", shapely.box(0, 0, 9, 9))],
        positive_names=("tumor",),
        exclude_names=(),
        label_rule="center",
        min_positive_fraction=0.5,
    ).shape == (0,)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_both_rules_agree_where_tiles_are_points(seed):
    rng = np.random.default_rng(seed)
    blobs = shapely.buffer(shapely.points(rng.uniform(0, 400, (9, 2))), rng.uniform(5, 60, 9))
    drawn = [Annotation("tumor", blob) for blob in blobs]
    coords = rng.integers(0, 400, (200, 2))
    names = {"positive_names": ("tumor",), "exclude_names": (), "min_positive_fraction": 0.5}
    by_area, by_center = (
        label_tiles(coords, tile_level0_px=1e-6, annotations=drawn, label_rule=rule, **names)
        for rule in ("area", "center")
    )
    assert by_area.tolist() == by_center.tolist()


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        ("Tumor", ["tumor"], True),
        ("Tumor: Positive", ["tumor"], True),
        ("Tumor: Positive", ["tumor: positive"], True),
        ("Tumor", ["tumor: positive"], False),
        ("Stroma: Positive", ["positive", "tumor"], False),
        ("Tumorous", ["tumor"], False),
        ("", ["none"], True),
        ("None", [""], True),
        ("", ["tumor"], False),
    ],
)
def test_subclasses_belong_to_their_class(name, names, expected):
    assert is_named(name, names) is expected

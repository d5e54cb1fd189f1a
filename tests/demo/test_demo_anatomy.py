"""Where tissue and tumor may lie, and the fields and masks drawn from them."""

import numpy as np
import pytest
import shapely

from wsi_kd.demo.anatomy import draw_layout, draw_traits, fill, smooth_field
from wsi_kd.demo.glands import Glands, draw_glands, gland_cells
from wsi_kd.demo.palette import draw_palette


@pytest.mark.parametrize("seed", range(25))
def test_pieces_are_apart_inside_the_slide_and_hold_the_tumor(seed):
    layout = draw_layout(np.random.default_rng(seed), with_tumor=True)
    frame = shapely.box(0, 0, layout.width_px, layout.height_px)
    tissue = shapely.union_all(layout.pieces)
    assert 2 <= len(layout.pieces) <= 4
    assert 3800 <= layout.width_px <= 4400
    assert frame.contains(tissue)
    assert tissue.area == pytest.approx(sum(piece.area for piece in layout.pieces))
    assert tissue.contains(layout.tumor)
    assert layout.tumor.is_valid
    assert 0.02 <= layout.tumor.area / tissue.area <= 0.15


def test_normal_and_empty_slides():
    normal = draw_layout(np.random.default_rng(0), with_tumor=False)
    assert normal.tumor.is_empty
    assert len(normal.pieces) >= 2
    empty = draw_layout(np.random.default_rng(0), with_tumor=False, with_tissue=False)
    assert empty.pieces == ()


def test_fill_covers_the_polygon_at_a_coarser_scale():
    area = fill(shapely.box(80, 40, 400, 240), height=40, width=60, shrink=8)
    assert np.argwhere(area)[[0, -1]].tolist() == [[5, 10], [30, 50]]
    assert set(np.unique(area)) == {0, 1}


def test_fill_of_nothing_is_empty():
    assert fill(shapely.MultiPolygon(), height=8, width=8, shrink=1).sum() == 0


def test_smooth_field_is_about_standard_and_smooth():
    field = smooth_field(np.random.default_rng(0), height=400, width=600, grain_px=20.0)
    assert field.mean() == pytest.approx(0, abs=0.1)
    assert 0.7 < field.std() < 1.3
    assert np.abs(np.diff(field, axis=1)).max() < 0.5


def test_tumor_nuclei_are_larger_than_any_benign_ones():
    rng = np.random.default_rng(3)
    palette = draw_palette(draw_traits(rng)._replace(grade=0.65), rng)
    sizes = {
        name: (getattr(palette, name) > 0.4).sum(axis=(2, 3)).mean()
        for name in ("lymphocyte", "epithelial", "reactive", "tumor")
    }
    assert sizes["lymphocyte"] < sizes["epithelial"] < sizes["reactive"] < sizes["tumor"]


def test_gland_nuclei_stand_inside_the_outer_half_of_their_gland():
    one = [np.array([value]) for value in (500.0, 400.0, 60.0, 50.0, 0.7, 0.3)]
    glands = Glands(*one, reactive=np.array([False]))
    cells = gland_cells(glands, reactive=False, rng=np.random.default_rng(0))
    # the perimeter of the ring, pi * (60 + 50) * 0.8, holds one nucleus every 11.5 px
    assert len(cells.x) == int(np.pi * 110 * 0.8 / 11.5)
    u = (cells.x - 500) * np.cos(0.7) + (cells.y - 400) * np.sin(0.7)
    v = (cells.y - 400) * np.cos(0.7) - (cells.x - 500) * np.sin(0.7)
    distance = np.hypot(u / 60, v / 50)
    assert 0.6 < distance.min() <= distance.max() < 1
    assert len(gland_cells(glands, reactive=True, rng=np.random.default_rng(0)).x) == 0


def test_the_stated_share_of_glands_is_reactive():
    rng = np.random.default_rng(5)
    traits = draw_traits(rng)._replace(reactive_share=0.2)
    glands = draw_glands(np.ones((800, 800), np.float32), scale=8, traits=traits, rng=rng)
    assert len(glands.x) > 1000
    assert glands.reactive.mean() == pytest.approx(0.2, abs=0.05)

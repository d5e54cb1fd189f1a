"""Outlines that cross themselves: what the even-odd rule fills, by hand and beside shapely's own repair."""

import json
import math

import numpy as np
import pytest
import shapely

from wsi_kd.core.errors import BadInput
from wsi_kd.tissue import crossings
from wsi_kd.tissue.crossings import even_odd
from wsi_kd.tissue.geojson import areas_of, read_geojson
from wsi_kd.tissue.rings import polygons_of, repaired


def box_ring(left, top, right, bottom):
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


SQUARE = box_ring(0, 0, 10, 10)
PENTAGRAM = [(math.cos(k * 0.8 * math.pi), math.sin(k * 0.8 * math.pi)) for k in range(5)]


def pentagram_points():
    """Return the area of the five points, for corners on a circle of radius 1.

    The inner corners lie on radius r = cos 72 / cos 36. The star is ten triangles of sides 1 and r around its
    middle, the pentagon inside, which lies within two turns, five of sides r and r.
    """
    r = math.cos(math.radians(72)) / math.cos(math.radians(36))
    return 5 * r * math.sin(math.radians(36)) - 2.5 * r**2 * math.sin(math.radians(72))


@pytest.mark.parametrize(
    ("drawn", "area", "pieces"),
    [
        (shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)]), 50.0, 2),
        (shapely.Polygon(PENTAGRAM), pentagram_points(), 5),
        (shapely.Polygon(SQUARE, [box_ring(5, 5, 15, 15)]), 150.0, 2),
        (shapely.Polygon([*SQUARE, *SQUARE]), 100.0, 1),
        (shapely.Polygon([(0, 0), (10, 0), (10, 5), (20, 5), (10, 5), (10, 10), (0, 10)]), 100.0, 1),
        (shapely.Polygon(SQUARE, [box_ring(2, 2, 8, 8), box_ring(4, 4, 6, 6)]), 68.0, 2),
        (shapely.Polygon([(0, 0), (5, 5), (10, 10)]), 0.0, 0),
    ],
    ids=["bow tie", "pentagram", "hole over the edge", "drawn twice", "spike", "hole in a hole", "line"],
)
def test_the_area_by_hand(drawn, area, pieces):
    """Two crossing squares fill what one of them alone covers: 2 x 100 - 2 x 25; a spike covers nothing."""
    filled = even_odd(drawn, where="x")
    assert filled.is_valid
    assert filled.area == pytest.approx(area, abs=1e-12)
    assert len(polygons_of(filled)) == pieces


def drawings(seed, count):
    """Rings on a coarse lattice, whose edges overlap, and free ones; some with holes that cross them."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        free = index % 3 == 0
        corners = rng.uniform(0, 9, (14, 2)) if free else rng.integers(0, 5, (12, 2))
        holes = [rng.integers(0, 5, (5, 2)) for _ in range(index % 3)]
        yield shapely.Polygon(corners, holes)


def test_the_area_is_that_of_make_valid():
    crossed = [drawn for drawn in drawings(0, 120) if not drawn.is_valid]
    assert len(crossed) > 100
    for drawn in crossed:
        found = even_odd(drawn, where="x")
        expected = shapely.union_all(polygons_of(shapely.make_valid(drawn)))
        assert found.is_valid
        assert found.symmetric_difference(expected).area < 1e-9
        assert found.area == pytest.approx(expected.area)


def test_many_windings_alternate():
    """20 squares within each other, in one stroke that comes back over the corners: every other band."""
    turns = 20
    rings = [box_ring(k, k, 100 - k, 100 - k) for k in range(turns)]
    one_stroke = [corner for ring in rings for corner in (*ring, ring[0])]
    one_stroke += [ring[0] for ring in reversed(rings)]
    filled = even_odd(shapely.Polygon(one_stroke), where="x")
    squares = [(100.0 - 2 * k) ** 2 for k in range(turns)]
    assert filled.area == pytest.approx(sum(squares[::2]) - sum(squares[1::2]))


@pytest.mark.parametrize("steps", [64, 127, 128, 256])
def test_faces_may_share_any_number_of_edges(steps):
    """A hole whose edge is a staircase, inside a square: between the two lie 2 x steps + 2 edges."""
    stairs = [(k + side, k) for k in range(steps) for side in (0, 1)]
    hole = [(x + 5.0, y + 5.0) for x, y in [*stairs, (steps, steps), (0, steps)]]
    square = box_ring(0, 0, steps + 10, steps + 10)
    ring = [*square, square[0], *hole, hole[0]]
    filled = even_odd(shapely.Polygon(ring), where="x")
    assert filled.area == pytest.approx((steps + 10) ** 2 - shapely.Polygon(hole).area)


def comb(strokes):
    """Vertical strokes in one line, then horizontal ones: each crosses each."""
    down = [(10.0 * k, 1000.0 * ((k + side) % 2)) for k in range(strokes) for side in (0, 1)]
    across = [(1000.0 * ((k + side) % 2) - 5, 10.0 * k + 5) for k in range(strokes) for side in (0, 1)]
    return [*down, *across]


def test_a_tangle_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(crossings, "MAX_CROSSINGS", 500)
    value = {"type": "Polygon", "coordinates": [np.random.default_rng(0).uniform(0, 9, (200, 2)).tolist()]}
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(value))
    with pytest.raises(BadInput, match=r"a\.geojson: feature 0: its outline crosses itself more than 500 t"):
        areas_of(read_geojson(path), where=str(path))


def test_crossings_are_counted_once(monkeypatch):
    """40 strokes down and 40 across that meet 1,600 times, besides the way back to the start."""
    drawn = shapely.Polygon(comb(40))
    monkeypatch.setattr(crossings, "_ASKED_AT_ONCE", 1000)
    edges = shapely.get_num_coordinates(shapely.boundary(drawn)) - 1
    met = (
        sum(
            drawn_edge.intersects(other)
            for index, drawn_edge in enumerate(edge_list(drawn))
            for other in edge_list(drawn)[index + 1 :]
        )
        - edges
    )
    monkeypatch.setattr(crossings, "MAX_CROSSINGS", met)
    assert repaired(drawn, where="x").is_valid
    monkeypatch.setattr(crossings, "MAX_CROSSINGS", met - 1)
    with pytest.raises(BadInput, match="crosses itself more than"):
        repaired(drawn, where="x")


def edge_list(drawn):
    corners = shapely.get_coordinates(shapely.boundary(drawn))
    return list(shapely.linestrings(np.stack([corners[:-1], corners[1:]], axis=1)))

"""Outlines that cross or touch themselves, made into the area that the even-odd rule fills.

The same area as `shapely.make_valid` gives. That peels an area layer by layer and so costs (layers) x
(crossings); here every face of the linework is colored once, by its distance from the outside.
"""

from typing import Final, NamedTuple

import numpy as np
import shapely
from jaxtyping import Float64, Int64, Shaped
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from shapely.geometry.base import BaseGeometry

from wsi_kd.core.errors import BadInput

MAX_CROSSINGS: Final = 100_000
"""Pairs of edges that may meet in one drawn area beside neighbors: seconds, and no hand crosses so often."""
_ASKED_AT_ONCE: Final = 2_000_000
"""Pairs of edges looked at in one query of the tree: 32 MB."""


class _Borders(NamedTuple):
    """The edges of all faces: where each begins and ends, and whose it is."""

    begins: Float64[np.ndarray, "edges 2"]
    ends: Float64[np.ndarray, "edges 2"]
    face: Int64[np.ndarray, " edges"]


def even_odd(drawn: BaseGeometry, *, where: str) -> BaseGeometry:
    """Return the area that an odd number of outlines lies around, valid; empty where there is none.

    The outlines are noded and cut into faces. A face belongs to the area where the least number of
    edges between it and the outside is odd; edges that are drawn twice count once, as in
    `shapely.make_valid`, so that a ring which is drawn over itself stays filled.

    Args:
        drawn: a polygon or multipolygon, valid or not, in pixels.
        where: names the drawing in messages.

    Raises:
        BadInput: more than `MAX_CROSSINGS` crossings.
    """
    outline = shapely.boundary(drawn)
    refuse_tangle(outline, where=where)
    noded = shapely.unary_union(outline)
    faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(noded)))
    return shapely.coverage_union_all(faces[_distance_from_outside(faces) % 2 == 1])


def refuse_tangle(outline: BaseGeometry, *, where: str) -> None:
    """Count pairs of edges that meet, neighbors left out; stops as soon as there are too many.

    Raises:
        BadInput: more than `MAX_CROSSINGS`.
    """
    begins, ends = _edges(outline)[:2]
    count = len(begins)
    if count * (count - 3) // 2 <= MAX_CROSSINGS:  # were every pair of edges to cross
        return
    edges = shapely.linestrings(np.stack([begins, ends], axis=1))
    tree = shapely.STRtree(edges)
    met = 0
    step = max(1, _ASKED_AT_ONCE // count)
    for start in range(0, count, step):
        block = edges[start : start + step]
        met += tree.query(block, predicate="intersects").shape[1] - 3 * len(block)  # itself, two neighbors
        if met > 2 * MAX_CROSSINGS:  # each pair is found from both of its edges
            raise BadInput(
                f"{where}: its outline crosses itself more than {MAX_CROSSINGS:,} times, "
                "nobody drew that; delete it or draw it again"
            )


def _distance_from_outside(faces: Shaped[np.ndarray, " faces"]) -> Int64[np.ndarray, " faces"]:
    """Return how many edges lie at least between the outside and each of these polygons."""
    borders = _edges(shapely.boundary(faces))
    outside = len(faces)
    beyond = _other_side(borders, outside=outside)
    shared = np.ones(len(beyond))  # edges between two faces add up
    steps = coo_array((shared, (borders.face, beyond)), shape=(outside + 1, outside + 1)).tocsr()
    distance = dijkstra(steps, directed=False, indices=outside, unweighted=True)
    return np.asarray(distance[:outside], np.int64)


def _edges(lines: BaseGeometry | np.ndarray) -> _Borders:
    """Cut lines, or each of an array of lines, into straight edges."""
    parts, owner = shapely.get_parts(lines, return_index=True)
    points, part = shapely.get_coordinates(parts, return_index=True)
    within = np.flatnonzero(part[1:] == part[:-1])
    return _Borders(points[within], points[within + 1], owner[part[within]])


def _other_side(borders: _Borders, *, outside: int) -> Int64[np.ndarray, " edges"]:
    """Return the face beyond each edge: two faces that share one have it between the same two points."""
    count = len(borders.face)
    both = np.concatenate([borders.begins, borders.ends])
    _, point = np.unique(both[:, 0] + 1j * both[:, 1], return_inverse=True)
    first = np.minimum(point[:count], point[count:])
    last = np.maximum(point[:count], point[count:])
    order = np.lexsort((last, first))
    twins = np.flatnonzero((np.diff(first[order]) == 0) & (np.diff(last[order]) == 0))
    beyond = np.full(count, outside, np.int64)
    beyond[order[twins]] = borders.face[order[twins + 1]]
    beyond[order[twins + 1]] = borders.face[order[twins]]
    return beyond

"""Regions of tiles at or above a threshold: overlapping tiles averaged by area, then merged into polygons.

The tiles' edges cut the plane into cells that each tile covers whole or not at all, so the mean over the
tiles above a cell is the average by area, exactly as a heatmap shows it at any size of its pixels.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import shapely
from jaxtyping import Bool, Float, Float64
from scipy import sparse

from wsi_kd.core.shapes import Coords

BLOCK_TILES = 16
"""Edge, in tiles, of the squares that are worked on at once: bounds the cells of tiles that lie anyhow."""
SNAP_LEVEL0_PX = 1.0
"""Positions are whole pixels and edges of tiles may not be: edges nearer than this are one."""
MAX_EDGES = 16
"""Edges of other tiles along a tile's edge, on average, up to which all are kept; grids have 1 to 8."""
COARSE_SNAP = 1 / 8
"""Share of a tile's edge within which edges become one where there are more: tiles that lie anyhow."""
ROUNDING = 1e-12
UM2_PER_MM2 = 1e6


class Region(NamedTuple):
    """A connected area at or above the threshold."""

    polygon: shapely.Polygon
    """Level-0 pixels; with holes where the score is below."""
    mean: float
    """Of the score over the area."""
    max: float
    area_mm2: float
    tiles: int
    """Tiles that cover some of it."""


class _Squares(NamedTuple):
    """Tiles as intervals of both axes, level-0 pixels, edges snapped."""

    left: Float64[np.ndarray, "tiles"]
    right: Float64[np.ndarray, "tiles"]
    top: Float64[np.ndarray, "tiles"]
    bottom: Float64[np.ndarray, "tiles"]
    scores: Float64[np.ndarray, "tiles"]


class _Runs(NamedTuple):
    """Runs of cells at or above the threshold, row by row, and what they cover together."""

    outline: shapely.MultiPolygon
    points: Float64[np.ndarray, "runs 2"]
    """One within each run."""
    areas: Float64[np.ndarray, "runs"]
    totals: Float64[np.ndarray, "runs"]
    """Sums of score times area."""
    highest: Float64[np.ndarray, "runs"]


def merged_regions(
    coords: Coords,
    scores: Float[np.ndarray, "tiles"],
    *,
    tile_level0_px: float,
    threshold: float,
    slide_mpp: float,
) -> list[Region]:
    """Return the regions where the area average of the tiles' scores is at least `threshold`.

    Regions that meet at a corner only are two. Where an edge is no whole number of pixels, edges within
    `SNAP_LEVEL0_PX` of each other become one, or slivers between neighbors would tear every region; where
    tiles lie anyhow and not on a grid, edges within an eighth of a tile do.

    Args:
        coords: top-left corners, level-0 pixels.
        scores: one a tile; tiles whose score is not finite are left out.
        tile_level0_px: edge of a tile.
        threshold: in the scores' unit.
        slide_mpp: um per level-0 pixel.

    Returns:
        The largest first.
    """
    known = np.isfinite(scores)
    squares = _squares(coords[known], scores[known].astype(np.float64), edge=tile_level0_px)
    found = list(_runs(squares, threshold - ROUNDING * max(1.0, abs(threshold)), edge=tile_level0_px))
    if not found:
        return []
    outlines, *columns = zip(*found, strict=True)
    merged = shapely.simplify(shapely.union_all(outlines), 0.0)  # leaves out corners on straight edges
    polygons = shapely.get_parts(merged)
    polygons = polygons[np.argsort(-shapely.area(polygons), kind="stable")]
    runs = _Runs(merged, *(np.concatenate(parts) for parts in columns))
    return _measured(polygons, runs, squares, slide_mpp=slide_mpp)


def _squares(coords: Coords, scores: Float64[np.ndarray, "tiles"], *, edge: float) -> _Squares:
    starts = coords.astype(np.float64)
    sides = [_snapped(starts[:, axis], starts[:, axis] + edge, edge=edge) for axis in (0, 1)]
    return _Squares(*sides[0], *sides[1], scores)


def _snapped(
    low: Float64[np.ndarray, "tiles"], high: Float64[np.ndarray, "tiles"], *, edge: float
) -> tuple[Float64[np.ndarray, "tiles"], Float64[np.ndarray, "tiles"]]:
    """Replace edges by the middle of their group; a group is no wider than the snap."""
    edges = np.unique(np.concatenate([low, high]))
    snap = 0.0 if float(edge).is_integer() else SNAP_LEVEL0_PX
    if len(edges) and len(edges) > MAX_EDGES * (edges[-1] - edges[0]) / edge:
        snap = max(snap, COARSE_SNAP * edge)
    if snap <= 0 or not len(edges):
        return low, high
    group = np.empty(len(edges), dtype=np.int64)
    count, start = -1, -math.inf
    for index, value in enumerate(edges.tolist()):
        if value - start > snap:
            count, start = count + 1, value
        group[index] = count
    first = np.searchsorted(group, np.arange(count + 1))
    last = np.searchsorted(group, np.arange(count + 1), side="right") - 1
    middle = ((edges[first] + edges[last]) / 2)[group]
    return middle[np.searchsorted(edges, low)], middle[np.searchsorted(edges, high)]


def _runs(squares: _Squares, threshold: float, *, edge: float) -> Iterator[_Runs]:
    """Yield what is at or above the threshold in each block of the plane that holds such a tile."""
    block = BLOCK_TILES * edge
    for row in _blocks(squares.top, squares.bottom, block):
        in_row = _within(squares.top, squares.bottom, row * block, end=(row + 1) * block)
        strip = _chosen(squares, in_row)
        for column in _blocks(strip.left, strip.right, block):
            inside = _within(strip.left, strip.right, column * block, end=(column + 1) * block)
            near = _chosen(strip, inside)
            if len(near.scores) and near.scores.max() >= threshold:
                runs = _block_runs(near, threshold, corner=(column * block, row * block), block=block)
                if len(runs.areas):
                    yield runs


def _blocks(low: Float64[np.ndarray, "tiles"], high: Float64[np.ndarray, "tiles"], block: float) -> list[int]:
    """List the blocks that some interval touches; an interval is shorter than a block."""
    ends = np.concatenate([low, high])
    return [int(number) for number in np.unique(np.floor(ends / block))]


def _within(
    low: Float64[np.ndarray, "tiles"], high: Float64[np.ndarray, "tiles"], start: float, *, end: float
) -> Bool[np.ndarray, "tiles"]:
    return (high > start) & (low < end)


def _chosen(squares: _Squares, which: Bool[np.ndarray, "tiles"]) -> _Squares:
    return _Squares(*(values[which] for values in squares))


def _block_runs(near: _Squares, threshold: float, *, corner: tuple[float, float], block: float) -> _Runs:
    """Average the tiles in each cell of a block and collect the cells at or above the threshold.

    With R and C (tiles, cells) 1 where a tile covers a row and a column of cells, R'C tiles lie above a cell
    and their scores sum to R' diag(scores) C.
    """
    xs, columns = _spans(near.left, near.right, start=corner[0], end=corner[0] + block)
    ys, rows = _spans(near.top, near.bottom, start=corner[1], end=corner[1] + block)
    counts = (rows.T @ columns).toarray()
    sums = (rows.T @ sparse.diags(near.scores) @ columns).toarray()
    means = np.divide(sums, counts, out=np.full(counts.shape, -np.inf), where=counts > 0)
    above = means >= threshold
    row, column = np.nonzero(above)
    boxes = shapely.box(xs[column], ys[row], xs[column + 1], ys[row + 1])
    areas, scores = np.diff(xs)[column] * np.diff(ys)[row], means[above]
    begins = np.flatnonzero((np.diff(row, prepend=-1) != 0) | (np.diff(column, prepend=-1) != 1))
    centers = np.column_stack([(xs[column] + xs[column + 1]) / 2, (ys[row] + ys[row + 1]) / 2])
    return _Runs(
        outline=shapely.coverage_union_all(boxes),
        points=centers[begins],
        areas=np.add.reduceat(areas, begins) if len(begins) else areas,
        totals=np.add.reduceat(areas * scores, begins) if len(begins) else areas,
        highest=np.maximum.reduceat(scores, begins) if len(begins) else scores,
    )


def _spans(
    low: Float64[np.ndarray, "tiles"], high: Float64[np.ndarray, "tiles"], *, start: float, end: float
) -> tuple[Float64[np.ndarray, "edges"], sparse.csr_matrix]:
    """Return the edges within [start, end], and (tiles, cells): 1 where a tile covers what two bound."""
    low, high = np.clip(low, start, end), np.clip(high, start, end)
    edges = np.unique(np.concatenate([low, high]))
    first, last = np.searchsorted(edges, low), np.searchsorted(edges, high)
    begins = np.concatenate([[0], np.cumsum(last - first)])
    covered = np.arange(begins[-1]) - np.repeat(begins[:-1] - first, last - first)
    return edges, sparse.csr_matrix(
        (np.ones(len(covered)), covered, begins), shape=(len(low), len(edges) - 1)
    )


def _measured(polygons: np.ndarray, runs: _Runs, squares: _Squares, *, slide_mpp: float) -> list[Region]:
    """Add up runs and tiles by the polygon that they lie in."""
    count = len(polygons)
    shapely.prepare(polygons)
    owner, run = shapely.STRtree(shapely.points(runs.points)).query(polygons, predicate="contains")
    area = np.bincount(owner, runs.areas[run], minlength=count)
    total = np.bincount(owner, runs.totals[run], minlength=count)
    highest = np.full(count, -np.inf)
    np.maximum.at(highest, owner, runs.highest[run])
    inner = SNAP_LEVEL0_PX / 4  # so that a tile beside a region does not count
    tiles = shapely.box(
        squares.left + inner, squares.top + inner, squares.right - inner, squares.bottom - inner
    )
    covering, _ = shapely.STRtree(tiles).query(polygons, predicate="intersects")
    numbers = np.bincount(covering, minlength=count)
    square_mm = slide_mpp**2 / UM2_PER_MM2
    return [
        Region(
            polygon,
            mean=float(total[index] / area[index]),
            max=float(highest[index]),
            area_mm2=float(polygon.area * square_mm),
            tiles=int(numbers[index]),
        )
        for index, polygon in enumerate(polygons)
    ]

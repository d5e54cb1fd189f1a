"""From the tiles of one slide to detections and lesions: which are peaks, which truths belong together.

Tiles are squares of one size at any positions, overlapping or not. Two tiles are neighbors where their
squares overlap or touch, corners included: where x and y of their corners differ by at most one tile edge
(and the pixel that rounding takes).
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from wsi_kd.core.shapes import Coords

Neighbors: TypeAlias = Int64[np.ndarray, "pairs two"]
Scores: TypeAlias = Float64[np.ndarray, "tiles"]
GroupOf: TypeAlias = Int64[np.ndarray, "tiles"]

WHOLE_PIXEL = 1.0
"""Level-0 pixels by which neighbors may stand apart: positions are whole pixels, an edge need not be."""


class Groups(NamedTuple):
    """Which group each tile is in."""

    of_tile: GroupOf
    groups: int


def neighbor_pairs(coords: Coords, *, tile_level0_px: float) -> Neighbors:
    """Return the pairs of neighboring tiles, each once.

    >>> neighbor_pairs(np.array([[0, 0], [256, 256], [600, 0]]), tile_level0_px=256.0).tolist()
    [[0, 1]]

    Args:
        coords: top-left corners, level-0 pixels.
        tile_level0_px: edge of a tile, above 0.
    """
    reach = tile_level0_px + WHOLE_PIXEL
    found = cKDTree(coords.astype(np.float64)).query_pairs(reach, p=np.inf, output_type="ndarray")
    return np.asarray(found, dtype=np.int64).reshape(-1, 2)


def join(pairs: Neighbors, *, count: int) -> Groups:
    """Number the connected groups of `count` tiles, in the order of their first tiles."""
    ones = np.ones(len(pairs), dtype=np.int8)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count)).tocsr()
    groups, of_tile = connected_components(graph, directed=False)
    return Groups(of_tile.astype(np.int64), int(groups))


def lesions(positive: Bool[np.ndarray, "tiles"], pairs: Neighbors) -> Groups:
    """Group positive tiles that are neighbors, one group a lesion; -1 for every other tile.

    >>> found = lesions(np.array([True, True, False, True]), np.array([[0, 1], [1, 2], [2, 3]]))
    >>> found.of_tile.tolist(), found.groups
    ([0, 0, -1, 1], 2)
    """
    inside = np.flatnonzero(positive)
    position = np.full(len(positive), -1, dtype=np.int64)
    position[inside] = np.arange(len(inside))
    kept = position[pairs[positive[pairs].all(axis=1)]]
    groups = join(kept, count=len(inside))
    of_tile = np.full(len(positive), -1, dtype=np.int64)
    of_tile[inside] = groups.of_tile
    return Groups(of_tile, groups.groups)


def peaks(scores: Scores, pairs: Neighbors) -> Int64[np.ndarray, "peaks"]:
    """Return the tiles that no neighbor exceeds: one detection each, of a plateau its first tile.

    A plateau is a group of neighbors of equal score; it is a peak where none of its tiles has a higher
    neighbor. A map without information (one value everywhere) has one peak a piece of tissue. Scores of a
    wide lesion may have several peaks: inside the lesion they count once.

    >>> peaks(np.array([0.1, 0.9, 0.9, 0.2, 0.5]), np.array([[0, 1], [1, 2], [2, 3], [3, 4]])).tolist()
    [1, 4]
    """
    first, second = scores[pairs[:, 0]], scores[pairs[:, 1]]
    plateaus = join(pairs[first == second], count=len(scores))
    exceeded = np.zeros(plateaus.groups, dtype=bool)
    exceeded[plateaus.of_tile[pairs[first < second, 0]]] = True
    exceeded[plateaus.of_tile[pairs[first > second, 1]]] = True
    _, starts = np.unique(plateaus.of_tile, return_index=True)
    return np.asarray(starts[~exceeded], dtype=np.int64)

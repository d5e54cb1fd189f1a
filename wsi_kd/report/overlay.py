"""Scores over a slide's pixels: tiles averaged by area, then colors over pale gray tissue.

The tissue below the tiles is shown in gray, so that every color on it is a score. Both color maps order by
lightness as well as hue, so they read with every common color vision deficiency and in gray print.
"""

from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
from jaxtyping import Float, Float32, Float64, Int, UInt8
from matplotlib import colormaps
from scipy import sparse

from wsi_kd.core.errors import unknown_name
from wsi_kd.core.shapes import Coords, Pixels

OPACITY = 0.55
COLORMAPS = ("viridis", "cividis")
SHADES = 256
BARE = SHADES
"""Stands in for the shade of a pixel without a score."""
DARKEST = 0.35
"""Gray of black tissue: dark nuclei must not darken the colors above them."""

Palette: TypeAlias = Float32[np.ndarray, "shades 3"]
"""Colors in 0-1 from the lower end of a color bar to the upper one."""

Origin: TypeAlias = tuple[int, int] | tuple[float, float]


class PlacedTiles(NamedTuple):
    """Tiles that have a score, sorted by y, so that those of a strip are found without a look at the rest."""

    coords: Coords
    scores: Float64[np.ndarray, "tiles"]
    tile_level0_px: float


class Window(NamedTuple):
    """A picture of a part of a slide."""

    origin: Origin
    """Level-0 position (x, y) of its top-left corner."""
    level0_px_per_px: float
    shape: tuple[int, int]
    """Height and width in pixels."""


def place_tiles(coords: Coords, scores: Float[np.ndarray, "tiles"], *, tile_level0_px: float) -> PlacedTiles:
    """Sort tiles by y; those whose score is not finite are left out."""
    known = np.flatnonzero(np.isfinite(scores))
    order = known[np.argsort(coords[known, 1], kind="stable")]
    return PlacedTiles(coords[order], scores[order].astype(np.float64), tile_level0_px)


def window_map(tiles: PlacedTiles, window: Window) -> Float32[np.ndarray, "height width"]:
    """Return the `score_map` of a window, looking at the tiles near it only."""
    height, width = window.shape
    (left, top), ratio, edge = window.origin, window.level0_px_per_px, tiles.tile_level0_px
    rows = slice(*np.searchsorted(tiles.coords[:, 1], (top - edge, top + height * ratio)))
    x = tiles.coords[rows, 0]
    near = np.flatnonzero((x > left - edge) & (x < left + width * ratio))
    return score_map(
        tiles.coords[rows][near],
        tiles.scores[rows][near],
        tile_level0_px=edge,
        level0_px_per_px=ratio,
        origin=window.origin,
        shape=window.shape,
    )


def score_map(
    coords: Coords,
    scores: Float[np.ndarray, "tiles"],
    *,
    tile_level0_px: float,
    level0_px_per_px: float,
    origin: Origin,
    shape: tuple[int, int],
) -> Float32[np.ndarray, "height width"]:
    """Average the tiles' scores in every pixel of an image, weighted by the area each tile covers of it.

    With Y (tiles, height) and X (tiles, width) the lengths that tile k covers of row i and of column j, the
    area it covers of pixel (i, j) is Y[k, i] X[k, j], hence map = (Y' diag(scores) X) / (Y' X).

    Args:
        coords: top-left corners, level-0 pixels.
        scores: one a tile; tiles whose score is not finite are left out.
        tile_level0_px: edge of a tile.
        level0_px_per_px: edge of an image pixel in level-0 pixels.
        origin: level-0 position (x, y) of the image's top-left corner.
        shape: height and width of the image in pixels.

    Returns:
        float32 (height, width), NaN where no tile lies.
    """
    known = np.isfinite(scores)
    corners = (coords[known] - np.asarray(origin)) / level0_px_per_px
    edge = tile_level0_px / level0_px_per_px
    columns = _covered(corners[:, 0], edge, pixels=shape[1])
    rows = _covered(corners[:, 1], edge, pixels=shape[0])
    areas = (rows.T @ columns).toarray()
    sums = (rows.T @ sparse.diags(scores[known].astype(np.float64)) @ columns).toarray()
    averages = np.full(shape, np.nan)
    np.divide(sums, areas, out=averages, where=areas > 0)
    return averages.astype(np.float32)


def palette(colormap: str) -> Palette:
    """Return the 256 colors of a map.

    Raises:
        BadInput: not one of `COLORMAPS`.
    """
    if colormap not in COLORMAPS:
        raise unknown_name("colormap", colormap, COLORMAPS)
    return np.asarray(colormaps[colormap](np.arange(SHADES)), dtype=np.float32)[:, :3]


def blend(
    pixels: Pixels,
    averages: Float32[np.ndarray, "height width"],
    *,
    colors: Palette,
    ends: tuple[float, float],
) -> UInt8[np.ndarray, "height width 3"]:
    """Show pixels in pale gray, scored ones under their color; scores beyond `ends` take their colors."""
    gray = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)  # ITU-R BT.601
    pale = DARKEST + (1 - DARKEST) / 255 * np.arange(256, dtype=np.float32)
    low, high = ends
    scaled = np.clip((averages - low) * (SHADES / (high - low)), 0, SHADES - 1)
    shade = np.where(np.isfinite(averages), scaled, BARE).astype(np.intp)
    color = np.concatenate([255 * OPACITY * colors, np.zeros((1, 3), np.float32)])
    below = 255 * np.stack([(1 - OPACITY) * pale, pale])  # under a color, and where no tile lies
    image = color[shade]
    image += below[(shade == BARE).view(np.uint8), gray][:, :, None]
    return np.asarray(np.rint(image, out=image), dtype=np.uint8)


def _covered(starts: Float[np.ndarray, "tiles"], edge: float, *, pixels: int) -> sparse.csr_matrix:
    """Return (tiles, pixels): the length that each interval [start, start + edge] covers of each pixel."""
    reach = int(np.ceil(edge)) + 1
    first = np.floor(starts).astype(np.int64)
    index: Int[np.ndarray, "tiles reach"] = first[:, None] + np.arange(reach)
    lengths = np.minimum(index + 1, starts[:, None] + edge) - np.maximum(index, starts[:, None])
    inside = (lengths > 0) & (index >= 0) & (index < pixels)
    tile, _ = np.nonzero(inside)
    return sparse.csr_matrix((lengths[inside], (tile, index[inside])), shape=(len(starts), pixels))

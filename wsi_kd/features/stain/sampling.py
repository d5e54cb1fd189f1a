"""A sample of a slide's pixels: some tiles, some pixels of each, the same ones whenever it is asked for."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from jaxtyping import Int64

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.shapes import Coords, Pixels
from wsi_kd.features.stain.fits import CannotFit, PixelRows

TileReader: TypeAlias = Callable[[int, int], Pixels]
"""Reads the tile at x, y (level-0 px); raises SlideProblem for a damaged one."""
PIXELS_PER_TILE = 2048
"""Pixels of each tile that are looked at: neighbors say the same."""


def chosen_tiles(count: int, *, tiles: int, seed: int) -> Int64[np.ndarray, "chosen"]:
    """Draw which of `count` tiles are looked at, in their own order.

    The draw depends on the seed and the number of tiles alone, not on the slide's name: `infer`, which may
    know the slide by another name, draws the same ones.
    """
    return np.sort(np.random.default_rng(seed).permutation(count)[:tiles]).astype(np.int64)


def sample_pixels(
    read: TileReader, coords: Coords, *, seed: int, pixels_per_tile: int = PIXELS_PER_TILE
) -> PixelRows:
    """Read tiles and draw pixels of each (all, of a smaller tile); damaged tiles are left out.

    Raises:
        CannotFit: no tile could be read.
    """
    rng = np.random.default_rng(seed)
    rows: list[PixelRows] = []
    for x, y in coords.tolist():
        try:
            rows.append(drawn_pixels(read(x, y), pixels_per_tile, rng=rng))
        except SlideProblem:
            continue  # the step that embeds the tile counts it as damaged
    if not rows:
        raise CannotFit("no tile could be read")
    return np.concatenate(rows)


def drawn_pixels(tile: Pixels, count: int, *, rng: np.random.Generator) -> PixelRows:
    """Draw `count` pixels of a tile, each at most once."""
    pixels = tile.reshape(-1, 3)
    return pixels[np.sort(rng.permutation(len(pixels))[:count])]

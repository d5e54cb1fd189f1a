"""Which tiles of a slide are shown as they are, and how: those with the highest and the lowest scores."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from wsi_kd.core.shapes import Coords, Pixels
from wsi_kd.inference.mappings import MAPPINGS, MappedTiles
from wsi_kd.inference.tables import TileTable
from wsi_kd.report.gallery_choice import ChosenKey
from wsi_kd.report.page import Picture, Strip
from wsi_kd.report.pictures import jpeg_picture

End = Literal["top", "bottom"]
END_NAMES: dict[End, str] = {"top": "Highest", "bottom": "Lowest"}


class ShownTile(NamedTuple):
    """One tile of the gallery: one line of report/tiles.csv."""

    recipe: str
    seed: int
    fold: int
    slide_id: str
    mapping: str
    """Key of the mapping that ranked it, see `wsi_kd.inference.mappings`."""
    end: str
    """top: among the highest scores; bottom: among the lowest."""
    rank: int
    """1 is the highest of the top, the lowest of the bottom."""
    x_level0_px: int
    y_level0_px: int
    width_level0_px: float
    score: float
    tile_label: int | None
    """1 positive, 0 negative, None unknown."""
    tile_mpp: float
    """um/px at which the tile was read for the page."""

    @property
    def chosen(self) -> ChosenKey:
        """Key of the gallery's slide that the tile belongs to."""
        return self.recipe, self.seed, self.fold, self.slide_id


class Ranked(NamedTuple):
    """Positions of tiles in their table, best first."""

    top: Int64[np.ndarray, "top"]
    bottom: Int64[np.ndarray, "bottom"]
    """Lowest first; none of them is among the top."""


def rank_tiles(
    mapped: MappedTiles, coords: Coords, *, tile_level0_px: float, size_level0_px: tuple[int, int], count: int
) -> Ranked:
    """Rank the tiles that lie wholly on the slide and have a score; equal ones from the top left.

    Args:
        mapped: one score a tile.
        coords: top-left corners, level-0 px.
        tile_level0_px: edge of a tile.
        size_level0_px: width and height of the slide.
        count: tiles of each end at most.
    """
    shown = np.isfinite(mapped.scores) & _on_slide(coords, tile_level0_px, size_level0_px)
    (index,) = np.nonzero(shown)
    scores, x, y = mapped.scores[index], coords[index, 0], coords[index, 1]
    falling = index[np.lexsort((x, y, -scores))]
    rising = index[np.lexsort((x, y, scores))]
    top = falling[:count]
    return Ranked(top, rising[~np.isin(rising, top)][:count])


def shown_tiles(
    ranked: Ranked,
    mapped: MappedTiles,
    tiles: TileTable,
    *,
    model: tuple[str, int, int],
    slide_id: str,
    tile_mpp: float,
) -> tuple[ShownTile, ...]:
    """Describe ranked tiles as lines of report/tiles.csv."""
    return tuple(
        ShownTile(
            *model,
            slide_id,
            mapped.key,
            end=end,
            rank=rank,
            x_level0_px=int(tiles.coords[index, 0]),
            y_level0_px=int(tiles.coords[index, 1]),
            width_level0_px=tiles.tile_level0_px,
            score=float(mapped.scores[index]),
            tile_label=int(tiles.tile_labels[index]) if tiles.tile_labels[index] >= 0 else None,
            tile_mpp=tile_mpp,
        )
        for end, chosen in zip(END_NAMES, ranked, strict=True)
        for rank, index in enumerate(chosen.tolist(), start=1)
    )


def tile_strips(shown: Sequence[ShownTile], crops: Sequence[Pixels]) -> tuple[Strip, ...]:
    """Lay out a slide's tiles, the highest and the lowest each in a row; `crops` are their pixels."""
    strips = []
    for end, name in END_NAMES.items():
        chosen = [(tile, crop) for tile, crop in zip(shown, crops, strict=True) if tile.end == end]
        if chosen:
            first = chosen[0][0]
            mapping = MAPPINGS[first.mapping].name
            caption = f"{name} {mapping}; tiles as read at {first.tile_mpp:.4g} um/px"
            strips.append(Strip(caption, tuple(_tile_picture(tile, crop, mapping) for tile, crop in chosen)))
    return tuple(strips)


def _tile_picture(tile: ShownTile, crop: Pixels, mapping: str) -> Picture:
    truth = {1: ", labeled positive", 0: ", labeled negative", None: ""}[tile.tile_label]
    place = f"x {tile.x_level0_px:,}, y {tile.y_level0_px:,}"
    return jpeg_picture(
        crop,
        alt=f"Tile of slide {tile.slide_id} at level-0 {place}: {mapping} {tile.score:.3f}{truth}",
        caption=f"{tile.score:.3f}{truth}",
    )


def _on_slide(
    coords: Coords, tile_level0_px: float, size_level0_px: tuple[int, int]
) -> Bool[np.ndarray, "tiles"]:
    ends = coords + tile_level0_px
    return np.asarray((coords >= 0).all(axis=1) & (ends <= np.asarray(size_level0_px)).all(axis=1))

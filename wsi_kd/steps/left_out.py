"""Part of step embed: tiles left out for their quality, and what the features' header says of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.features.quality import Fate, QualityCheck
from wsi_kd.features.quality_columns import TileQuality, unknown_quality
from wsi_kd.features.quality_counts import quality_counts
from wsi_kd.features.store import TileFile
from wsi_kd.features.tile_units import EmbeddedTiles
from wsi_kd.settings.slides import EmbedSettings
from wsi_kd.tissue.optical_density import WHITE

DROPPED = {
    Fate.PEN: "dropped_pen",
    Fate.BACKGROUND: "dropped_background",
    Fate.BLURRED: "dropped_blurred",
}
"""Keys of the header that count tiles left out; damaged ones are in `damaged_tiles`."""
LIMITS = {
    Fate.PEN: "max_pen_fraction",
    Fate.BACKGROUND: "max_background_fraction",
    Fate.BLURRED: "min_sharpness",
}
"""The settings of `embed` that leave them out."""


def quality_check(header: Mapping[str, Any], embed: EmbedSettings) -> QualityCheck:
    """Return how a slide's tiles are judged; the glass and the inks are those of its mask."""
    red, green, blue = header.get("glass_rgb", WHITE)
    return QualityCheck(
        tile_mpp=float(header["tile_mpp"]),
        glass=(red, green, blue),
        pen_colors=tuple(header.get("pen_colors", ())),
        min_sharpness=embed.min_sharpness,
        max_pen_fraction=embed.max_pen_fraction,
        max_background_fraction=embed.max_background_fraction,
    )


def quality_of(found: EmbeddedTiles, tiles: TileFile) -> TileQuality:
    """Join the measures of the kept tiles with their share of tissue from the tile file."""
    if found.measures is None:
        return unknown_quality(int(found.kept.sum()))
    return TileQuality(tiles.tissue_fraction[found.kept], *found.measures)


def check_left_out(found: EmbeddedTiles, header: dict[str, Any]) -> None:
    """Enter into the header how many tiles were left out and why, and how many others are worth a look.

    Raises:
        SlideProblem: too_few_tiles, where fewer are left than `tile.min_tiles` asked for.
    """
    counts = {fate: int(np.count_nonzero(found.fates == fate)) for fate in DROPPED}
    header.update({DROPPED[fate]: count for fate, count in counts.items()})
    header["quality_counts"] = quality_counts(found.measures)
    left, laid = int(found.kept.sum()), len(found.fates)
    needed = int(header["settings"].get("tile", {}).get("min_tiles", 1))
    if left < needed:
        told = [f"{count} by embed.{LIMITS[fate]}" for fate, count in counts.items() if count]
        told += [f"{len(found.damaged)} cannot be read"] if found.damaged else []
        raise SlideProblem(
            SlideStatus.TOO_FEW_TILES,
            f"{left} of {laid} tiles are left, {needed} needed; left out: {', '.join(told)}",
        )

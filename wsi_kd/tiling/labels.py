"""Annotations -> tile labels."""

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import shapely

from wsi_kd.core.shapes import Coords, TileLabels
from wsi_kd.tiling.coverage import covered_fraction
from wsi_kd.tissue.annotations import Annotation


def label_tiles(
    coords: Coords,
    *,
    tile_level0_px: float,
    annotations: Sequence[Annotation],
    positive_names: Collection[str],
    exclude_names: Collection[str],
    min_positive_fraction: float,
) -> TileLabels:
    """Label the tiles of an annotated slide: 1 where positive area covers enough of the tile, else 0.

    Positive area is the union of the areas named in `positive_names` less that of the areas named in
    `exclude_names` (names in any case); a tile is positive from `min_positive_fraction` of its area on, and
    never without any. Areas of other names count for nothing.

    Args:
        coords: top-left corners in level-0 pixels.
        tile_level0_px: edge of a tile in level-0 pixels.
        annotations: areas in level-0 pixels.
        positive_names: class names whose area is positive.
        exclude_names: class names whose area is cut out.
        min_positive_fraction: smallest share of a positive tile, in [0, 1].
    """
    positive = shapely.difference(_union(annotations, positive_names), _union(annotations, exclude_names))
    fraction = covered_fraction(coords, tile_level0_px=tile_level0_px, area=positive)
    return np.asarray((fraction > 0) & (fraction >= min_positive_fraction - 1e-9), np.int8)


def _union(annotations: Iterable[Annotation], names: Collection[str]) -> shapely.Geometry:
    folded = {name.casefold() for name in names}
    return shapely.union_all([item.area for item in annotations if item.name.casefold() in folded])

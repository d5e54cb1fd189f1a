"""Annotations -> tile labels."""

from collections.abc import Collection, Iterable, Sequence
from typing import Literal

import numpy as np
import shapely

from wsi_kd.core.shapes import Coords, TileLabels
from wsi_kd.tiling.coverage import covered_fraction
from wsi_kd.tissue.drawing import CLASS_SEPARATOR, Annotation

LabelRule = Literal["area", "center"]
UNNAMED = "none"
"""Stands for areas without a class in a list of names: ASAP shows them so."""


def label_tiles(
    coords: Coords,
    *,
    tile_level0_px: float,
    annotations: Sequence[Annotation],
    positive_names: Collection[str],
    exclude_names: Collection[str],
    label_rule: LabelRule,
    min_positive_fraction: float,
) -> TileLabels:
    """Label the tiles of an annotated slide: 1 on positive area, else 0.

    Positive area is the union of the areas of `positive_names` less that of the areas of `exclude_names`;
    areas of other names count for nothing. By the rule `area` a tile is positive from `min_positive_fraction`
    of its area on, and never without any; by the rule `center` where its center lies in the area or on its
    outline.

    Args:
        coords: top-left corners in level-0 pixels.
        tile_level0_px: edge of a tile in level-0 pixels.
        annotations: areas in level-0 pixels.
        positive_names: class names whose area is positive, as `is_named` reads them.
        exclude_names: class names whose area is cut out.
        label_rule: by area or by center.
        min_positive_fraction: smallest share of a positive tile, in [0, 1]; of rule `area`.
    """
    positive = shapely.difference(_union(annotations, positive_names), _union(annotations, exclude_names))
    if label_rule == "center":
        centers = coords + tile_level0_px / 2
        shapely.prepare(positive)
        return np.asarray(shapely.intersects_xy(positive, centers[:, 0], centers[:, 1]), np.int8)
    fraction = covered_fraction(coords, tile_level0_px=tile_level0_px, area=positive)
    return np.asarray((fraction > 0) & (fraction >= min_positive_fraction - 1e-9), np.int8)


def is_named(name: str, names: Collection[str]) -> bool:
    """Tell whether a class is one of `names`, in any case; a subclass belongs to its class.

    An area without a class is called '' or 'none'.

    >>> is_named("Tumor: Positive", ["tumor"]), is_named("Stroma: Tumor", ["tumor"]), is_named("", ["None"])
    (True, False, True)
    """
    listed = {"" if other.casefold() == UNNAMED else other.casefold() for other in names}
    own = "" if name.casefold() == UNNAMED else name.casefold()
    parts = own.split(CLASS_SEPARATOR)
    return any(CLASS_SEPARATOR.join(parts[:count]) in listed for count in range(1, len(parts) + 1))


def _union(annotations: Iterable[Annotation], names: Collection[str]) -> shapely.Geometry:
    return shapely.union_all([item.area for item in annotations if is_named(item.name, names)])

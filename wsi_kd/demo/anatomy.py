"""Where things are on a slide: pieces of tissue, tumor regions, smooth fields that vary within them."""

from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
import shapely
from jaxtyping import Float32
from shapely.affinity import scale, translate

from wsi_kd.core.errors import RunFailed

Field: TypeAlias = Float32[np.ndarray, "rows columns"]
"""A value everywhere on a canvas, in general coarser than its pixels."""

LARGEST_TUMOR_SHARE = 0.15
SMALLEST_TUMOR_SHARE = 0.02
ATTEMPTS = 500


class Layout(NamedTuple):
    """The plan of one slide in level-0 pixels; `tumor` lies within `pieces`, empty in a normal slide."""

    width_px: int
    height_px: int
    pieces: tuple[shapely.Polygon, ...]
    tumor: shapely.MultiPolygon


class Traits(NamedTuple):
    """What makes one slide's tissue differ from another's, whatever its label."""

    gland_share: float
    """Share of the tissue that holds glands."""
    reactive_share: float
    """Share of the glands with enlarged, crowded nuclei that are not tumor."""
    aggregates: int
    """Lymphocyte aggregates a piece."""
    lymphocytes: float
    """Density (0-1) of lymphocytes strewn in the stroma."""
    fat_share: float
    folds: int
    """Folds a piece."""
    nuclear_scale: float
    grade: float
    """How far tumor nuclei differ from normal ones: 0 barely, 1 plainly."""


def draw_layout(rng: np.random.Generator, *, with_tumor: bool, with_tissue: bool = True) -> Layout:
    """Plan a slide about 4,000 px wide with two to four pieces of tissue; tumor takes 2 to 15 % of them.

    Raises:
        RunFailed: no place for the tumor was found; the seed has to change.
    """
    width = 64 * int(rng.integers(60, 69))
    height = 64 * int(rng.integers(44, 53))
    pieces = _pieces(rng, width=width, height=height) if with_tissue else ()
    tumor = _tumor(rng, pieces=pieces) if with_tumor else shapely.MultiPolygon()
    return Layout(width, height, pieces, tumor)


def draw_traits(rng: np.random.Generator) -> Traits:
    """Draw the composition of one slide's tissue; the label has no part in it."""
    return Traits(
        gland_share=float(rng.uniform(0.4, 0.6)),
        reactive_share=float(rng.uniform(0.08, 0.22)),
        aggregates=int(rng.integers(2, 5)),
        lymphocytes=float(rng.uniform(0.06, 0.18)),
        fat_share=float(rng.uniform(0.03, 0.10)),
        folds=int(rng.integers(1, 3)),
        nuclear_scale=float(rng.uniform(0.96, 1.04)),
        grade=float(rng.uniform(0.65, 1.0)),
    )


def blob(
    rng: np.random.Generator, *, radius_px: float, roughness: float, points: int = 240
) -> shapely.Polygon:
    """Draw a closed outline around the origin: a circle whose radius carries a few random harmonics."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    order = np.arange(2, 14)
    amplitude = rng.normal(0, roughness / order)[:, None]
    waves = amplitude * np.cos(order[:, None] * angle + rng.uniform(0, 2 * np.pi, (len(order), 1)))
    radius = radius_px * np.clip(1 + waves.sum(axis=0), 0.35, 1.8)
    return shapely.Polygon(np.column_stack([radius * np.cos(angle), radius * np.sin(angle)]))


def smooth_field(rng: np.random.Generator, *, height: int, width: int, grain_px: float) -> Field:
    """Draw smooth noise of about unit variance whose hills are about `grain_px` wide."""
    rows, columns = (max(4, int(np.ceil(extent / grain_px)) + 3) for extent in (height, width))
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(field * 1.3, np.float32)


def fill(area: shapely.Polygon | shapely.MultiPolygon, *, height: int, width: int, shrink: int) -> Field:
    """Paint the inside of a polygon with 1 on a canvas `shrink` times coarser than its coordinates."""
    mask = np.zeros((height, width), np.uint8)
    outlines = [
        np.round(np.asarray(part.exterior.coords) / shrink).astype(np.int32)
        for part in shapely.get_parts(area)
        if not part.is_empty
    ]
    cv2.fillPoly(mask, outlines, 1)
    return mask.astype(np.float32)


def _pieces(rng: np.random.Generator, *, width: int, height: int) -> tuple[shapely.Polygon, ...]:
    columns, rows = ((2, 1), (3, 1), (2, 2))[int(rng.integers(0, 3))]
    cell_width, cell_height = width / columns, height / rows
    pieces = []
    for index in range(columns * rows):
        outline = blob(rng, radius_px=1.0, roughness=0.22)
        left, top, right, bottom = outline.bounds
        share = rng.uniform(0.62, 0.86, 2)
        outline = scale(
            translate(outline, -(left + right) / 2, -(top + bottom) / 2),
            share[0] * cell_width / (right - left),
            share[1] * min(cell_height, 1.5 * cell_width) / (bottom - top),
            origin=(0, 0),
        )
        shift = rng.uniform(-0.04, 0.04, 2) * (cell_width, cell_height)
        x, y = (index % columns + 0.5) * cell_width, (index // columns + 0.5) * cell_height
        pieces.append(translate(outline, x + shift[0], y + shift[1]))
    return tuple(pieces)


def _tumor(rng: np.random.Generator, *, pieces: tuple[shapely.Polygon, ...]) -> shapely.MultiPolygon:
    """Place one or two regions inside the pieces until their share of the tissue is within bounds."""
    tissue = shapely.union_all(pieces)
    for _ in range(ATTEMPTS):
        regions = int(rng.integers(1, 3))
        wanted = rng.uniform(0.075, 0.14) * tissue.area / regions
        parts = []
        for _ in range(regions):
            home = pieces[int(rng.integers(0, len(pieces)))]
            left, top, right, bottom = home.bounds
            outline = blob(rng, radius_px=float(np.sqrt(wanted / np.pi)), roughness=0.3)
            spot = translate(outline, rng.uniform(left, right), rng.uniform(top, bottom))
            parts.append(spot.intersection(home.buffer(-40)))
        tumor = shapely.union_all(parts).buffer(0)
        polygons = [part for part in shapely.get_parts(tumor) if isinstance(part, shapely.Polygon)]
        whole = all(part.area > 0.7 * wanted for part in polygons)
        if polygons and whole and SMALLEST_TUMOR_SHARE <= tumor.area / tissue.area <= LARGEST_TUMOR_SHARE:
            return shapely.MultiPolygon(polygons)
    raise RunFailed(
        f"no tumor of 2 to 15 % of the tissue fits after {ATTEMPTS} attempts; draw with another seed"
    )

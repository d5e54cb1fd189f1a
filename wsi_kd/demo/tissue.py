"""Paint one piece of tissue as two stain concentrations: stroma, fat, glands, lymphocytes, tumor, folds."""

from typing import NamedTuple

import cv2
import numpy as np
import shapely
from shapely.affinity import translate

from wsi_kd.demo.anatomy import Field, Traits, fill, smooth_field
from wsi_kd.demo.glands import Glands, draw_glands, gland_cells, paint_glands
from wsi_kd.demo.matrix import (
    SCALE,
    Stains,
    draw_grain,
    draw_thickness,
    enlarge,
    paint_fat,
    paint_red_cells,
    weave_stroma,
)
from wsi_kd.demo.nuclei import Cells, Stamps, lookup, place, scatter
from wsi_kd.demo.palette import Palette
from wsi_kd.demo.stains import Concentration

SPARED_SHARE = 0.2
"""Glands give way where lymphocytes are denser than this."""


class Regions(NamedTuple):
    """Shares (0-1) of what grows where, SCALE times coarser than the pixels."""

    tissue: Field
    tumor: Field
    nests: Field
    glandular: Field
    fat: Field
    lymphoid: Field


def paint_piece(
    outline: shapely.Polygon,
    tumor: shapely.MultiPolygon,
    *,
    origin: tuple[int, int],
    shape: tuple[int, int],
    traits: Traits,
    palette: Palette,
    rng: np.random.Generator,
) -> Stains:
    """Paint the piece inside `outline` on a canvas of `shape` (height, width) whose corner lies at `origin`.

    Canvas edges are multiples of SCALE; polygons are in level-0 pixels.
    """
    outline, tumor = (translate(area, -origin[0], -origin[1]) for area in (outline, tumor))
    regions = _regions(outline, tumor, shape=shape, traits=traits, rng=rng)
    stains = weave_stroma(shape, rng=rng)
    room = regions.glandular * (1 - _dilated(regions.tumor, 5))
    glands = draw_glands(room, scale=SCALE, traits=traits, rng=rng)
    paint_fat(regions.fat, stains, rng=rng)
    paint_glands(glands, hematoxylin=stains.hematoxylin, eosin=stains.eosin, rng=rng)
    _paint_nests(regions, stains)
    vascular = regions.tissue * (1 - regions.nests) * (1 - regions.glandular)
    paint_red_cells(vascular, stains, rng=rng)
    nuclei = _nuclei(regions, glands, palette=palette, traits=traits, rng=rng)
    grain = draw_grain(shape, rng=rng)
    eosin = stains.eosin * (1 - np.float32(0.5) * np.minimum(nuclei, 1)) * grain
    hematoxylin = np.maximum(stains.hematoxylin * grain, nuclei)
    thickness = draw_thickness(outline, shape=shape, folds=traits.folds, rng=rng)
    return Stains(hematoxylin * thickness, eosin * thickness)


def _regions(
    outline: shapely.Polygon,
    tumor: shapely.MultiPolygon,
    *,
    shape: tuple[int, int],
    traits: Traits,
    rng: np.random.Generator,
) -> Regions:
    height, width = shape[0] // SCALE, shape[1] // SCALE
    tissue, inside_tumor = (fill(area, height=height, width=width, shrink=SCALE) for area in (outline, tumor))
    organ = smooth_field(rng, height=height, width=width, grain_px=600 / SCALE)
    glandular = tissue * (organ > np.quantile(organ, 1 - traits.gland_share))
    soft = smooth_field(rng, height=height, width=width, grain_px=450 / SCALE)
    fat = tissue * (1 - inside_tumor) * (1 - glandular) * (soft > np.quantile(soft, 1 - 2 * traits.fat_share))
    islands = smooth_field(rng, height=height, width=width, grain_px=110 / SCALE)
    nests = inside_tumor * (islands > np.quantile(islands, 0.3))
    lymphoid = _aggregates(tissue * (1 - inside_tumor), count=traits.aggregates, rng=rng)
    glandular = glandular * (lymphoid < SPARED_SHARE)
    fields = (tissue, inside_tumor, nests, glandular, fat, lymphoid)
    return Regions(*(field.astype(np.float32) for field in fields))


def _aggregates(room: Field, *, count: int, rng: np.random.Generator) -> Field:
    """Place lymphocyte aggregates of 60 to 190 px radius: dense inside, thinning out at the edge."""
    density = np.zeros_like(room)
    rows, columns = np.nonzero(room)
    for index in rng.integers(0, len(rows), count) if len(rows) else ():
        radius = rng.uniform(60, 190) / SCALE
        y, x = np.ogrid[: room.shape[0], : room.shape[1]]
        distance = np.hypot(y - rows[index], (x - columns[index]) * rng.uniform(0.7, 1.3)) / radius
        density = np.maximum(density, np.clip(1.6 - 1.3 * distance, 0, 0.97))
    return np.asarray(density * room, np.float32)


def _paint_nests(regions: Regions, stains: Stains) -> None:
    """Fill tumor nests with amphophilic cytoplasm: less eosin than stroma, more hematoxylin."""
    nests = cv2.GaussianBlur(enlarge(regions.nests), (0, 0), 4)
    stains.eosin[:] = stains.eosin * (1 - nests) + np.float32(0.33) * nests
    stains.hematoxylin[:] += np.float32(0.14) * nests


def _nuclei(
    regions: Regions, glands: Glands, *, palette: Palette, traits: Traits, rng: np.random.Generator
) -> Concentration:
    canvas = np.zeros(tuple(SCALE * extent for extent in regions.tissue.shape), np.float32)
    benign = regions.tissue * (1 - regions.nests)
    gland_free = benign * (1 - _gland_cover(glands, regions.tissue.shape))
    place(gland_cells(glands, reactive=False, rng=rng), palette.epithelial, canvas=canvas, rng=rng)
    place(gland_cells(glands, reactive=True, rng=rng), palette.reactive, canvas=canvas, rng=rng)
    stroma = gland_free * (1 - regions.fat * np.float32(0.8))
    _strew(stroma * np.float32(0.55), palette.spindle, spacing_px=34.0, canvas=canvas, rng=rng)
    strewn = smooth_field(rng, height=benign.shape[0], width=benign.shape[1], grain_px=250 / SCALE)
    few = stroma * np.clip(traits.lymphocytes * np.exp(strewn - 0.5), 0, 0.8)
    _strew(np.maximum(few, regions.lymphoid), palette.lymphocyte, spacing_px=15.0, canvas=canvas, rng=rng)
    spacing = palette.tumor_spacing_px
    _strew(regions.nests * np.float32(0.9), palette.tumor, spacing_px=spacing, canvas=canvas, rng=rng)
    return canvas


def _strew(
    density: Field,
    stamps: Stamps,
    *,
    spacing_px: float,
    canvas: Concentration,
    rng: np.random.Generator,
) -> None:
    x, y = scatter(density, spacing_px=spacing_px, scale=SCALE, rng=rng)
    directions = smooth_field(rng, height=density.shape[0], width=density.shape[1], grain_px=40.0) * 1.2
    angle = lookup(directions, x, y, scale=SCALE) + rng.normal(0, 0.35, len(x))
    place(Cells(x, y, angle), stamps, canvas=canvas, rng=rng)


def _gland_cover(glands: Glands, shape: tuple[int, ...]) -> Field:
    mask = np.zeros(shape, np.uint8)
    for x, y, radius in zip(glands.x, glands.y, glands.length, strict=True):
        cv2.circle(mask, (round(x / SCALE), round(y / SCALE)), round(0.95 * radius / SCALE), 1, -1)
    return mask.astype(np.float32)


def _dilated(mask: Field, radius: int) -> Field:
    return np.asarray(cv2.dilate(mask, np.ones((2 * radius + 1,) * 2, np.uint8)), np.float32)

"""Paint one piece of tissue as two stain concentrations: stroma, fat, glands, lymphocytes, tumor, folds."""

from typing import NamedTuple

import cv2
import numpy as np
import shapely
from jaxtyping import Float32
from shapely.affinity import translate

from wsi_kd.demo.anatomy import Traits, fill, smooth_field
from wsi_kd.demo.glands import Glands, draw_glands, gland_cells, paint_glands
from wsi_kd.demo.nuclei import Cells, NucleusKind, Stamps, draw_stamps, lookup, place, scatter
from wsi_kd.demo.stains import Concentration

SCALE = 8
"""Fields that say what grows where are this much coarser than the pixels."""
TEXTURE_PX = 1024
GRAIN_PX = 499
BEND_PX = 42
EDGE_LEVEL = 0.5


class Stains(NamedTuple):
    """The two stain concentrations of a canvas."""

    hematoxylin: Concentration
    eosin: Concentration


class Regions(NamedTuple):
    """Shares (0-1) of what grows where, SCALE times coarser than the pixels."""

    tissue: Float32[np.ndarray, "rows columns"]
    tumor: Float32[np.ndarray, "rows columns"]
    nests: Float32[np.ndarray, "rows columns"]
    glandular: Float32[np.ndarray, "rows columns"]
    fat: Float32[np.ndarray, "rows columns"]
    lymphoid: Float32[np.ndarray, "rows columns"]


class Palette(NamedTuple):
    """The nuclei of one slide."""

    epithelial: Stamps
    reactive: Stamps
    spindle: Stamps
    lymphocyte: Stamps
    tumor: Stamps
    tumor_spacing_px: float


def draw_palette(traits: Traits, rng: np.random.Generator) -> Palette:
    """Draw the nuclei of one slide; grade moves tumor nuclei away from the reactive ones, which are benign."""
    size, grade = traits.nuclear_scale, traits.grade
    tumor = NucleusKind(
        length_px=size * (9.6 + 3.4 * grade),
        width_px=size * (7.4 + 2.8 * grade),
        size_spread=0.12 + 0.10 * grade,
        irregularity=0.10 + 0.14 * grade,
        darkness=0.86 + 0.16 * grade,
        chromatin=0.20 + 0.12 * grade,
        nucleoli=2,
    )
    return Palette(
        epithelial=draw_stamps(NucleusKind(9.0 * size, 6.2 * size, 0.08, 0.05, 0.80, 0.16, 1), rng),
        reactive=draw_stamps(NucleusKind(11.5 * size, 7.2 * size, 0.12, 0.08, 0.92, 0.20, 1), rng),
        spindle=draw_stamps(NucleusKind(12.5 * size, 3.0 * size, 0.18, 0.06, 0.75, 0.12, 0), rng),
        lymphocyte=draw_stamps(NucleusKind(6.2 * size, 5.7 * size, 0.08, 0.04, 1.10, 0.18, 0), rng),
        tumor=draw_stamps(tumor, rng),
        tumor_spacing_px=size * (19.0 + 4.5 * grade),
    )


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
    stains = _stroma(regions, rng=rng)
    room = regions.glandular * (1 - _dilated(regions.tumor, 5))
    glands = draw_glands(room, scale=SCALE, traits=traits, rng=rng)
    _paint_fat(regions, stains, rng=rng)
    paint_glands(glands, hematoxylin=stains.hematoxylin, eosin=stains.eosin, rng=rng)
    _paint_nests(regions, stains)
    _paint_red_cells(regions, stains, rng=rng)
    nuclei = _nuclei(regions, glands, palette=palette, traits=traits, rng=rng)
    grain = _grain(shape, rng=rng)
    eosin = stains.eosin * (1 - np.float32(0.5) * np.minimum(nuclei, 1)) * grain
    hematoxylin = np.maximum(stains.hematoxylin * grain, nuclei)
    thickness = _thickness(outline, shape=shape, folds=traits.folds, rng=rng)
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
    lymphoid = _aggregates(
        tissue * (1 - inside_tumor), count=traits.aggregates, rng=rng
    )
    glandular = glandular * (lymphoid < 0.2)
    return Regions(*(np.float32(field) for field in (tissue, inside_tumor, nests, glandular, fat, lymphoid)))


def _aggregates(
    room: Float32[np.ndarray, "rows columns"], *, count: int, rng: np.random.Generator
) -> Float32[np.ndarray, "rows columns"]:
    """Place lymphocyte aggregates of 60 to 190 px radius: dense inside, thinning out at the edge."""
    density = np.zeros_like(room)
    rows, columns = np.nonzero(room)
    for index in rng.integers(0, len(rows), count) if len(rows) else ():
        radius = rng.uniform(60, 190) / SCALE
        y, x = np.ogrid[: room.shape[0], : room.shape[1]]
        distance = np.hypot(y - rows[index], (x - columns[index]) * rng.uniform(0.7, 1.3)) / radius
        density = np.maximum(density, np.clip(1.6 - 1.3 * distance, 0, 0.97))
    return np.asarray(density * room, np.float32)


def _stroma(regions: Regions, *, rng: np.random.Generator) -> Stains:
    """Weave wavy collagen: stretched noise, bent by a smooth displacement, torn into clefts where it is thin."""
    height, width = (SCALE * extent for extent in regions.tissue.shape)
    bend_x, bend_y = (
        smooth_field(rng, height=height // SCALE, width=width // SCALE, grain_px=35) for _ in "xy"
    )
    turn = rng.uniform(0, np.pi)
    y, x = np.mgrid[: height // SCALE, : width // SCALE].astype(np.float32) * SCALE
    along = x * np.cos(turn) + y * np.sin(turn) + BEND_PX * bend_x
    across = y * np.cos(turn) - x * np.sin(turn) + BEND_PX * bend_y
    map_x, map_y = (_enlarged(np.float32(grid)) for grid in (along, across))
    fibers = cv2.remap(_fiber_texture(rng), map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    density = _enlarged(smooth_field(rng, height=height // SCALE, width=width // SCALE, grain_px=40))
    eosin = np.float32(0.40) + np.float32(0.07) * density + np.float32(0.085) * fibers
    clefts = cv2.GaussianBlur((fibers < -1.9 - 0.4 * density).astype(np.float32), (0, 0), 1.2)
    eosin = np.clip(eosin, 0.12, 1.0) * (1 - np.float32(0.85) * clefts)
    hematoxylin = np.float32(0.05) + np.float32(0.015) * fibers
    return Stains(np.maximum(hematoxylin, 0), eosin)


def _fiber_texture(rng: np.random.Generator) -> Float32[np.ndarray, "height width"]:
    """Draw periodic noise of unit variance, several times longer along x than along y, on three scales."""
    noise = np.fft.rfft2(rng.standard_normal((TEXTURE_PX, TEXTURE_PX)))
    frequency_y = np.fft.fftfreq(TEXTURE_PX)[:, None]
    frequency_x = np.fft.rfftfreq(TEXTURE_PX)[None]
    texture = np.zeros((TEXTURE_PX, TEXTURE_PX))
    for scale, stretch in ((0.8, 7), (2.2, 9), (5.0, 6)):
        gain = np.exp(-2 * (np.pi * scale) ** 2 * (frequency_y**2 + (stretch * frequency_x) ** 2))
        layer = np.fft.irfft2(noise * gain)
        texture += layer / layer.std()
    return np.float32(texture / texture.std())


def _paint_fat(regions: Regions, stains: Stains, *, rng: np.random.Generator) -> None:
    """Empty round fat cells with thin walls."""
    x, y = scatter(regions.fat, spacing_px=60, scale=SCALE, rng=rng, jitter=0.28)
    mask = np.zeros(stains.eosin.shape, np.uint8)
    for center_x, center_y, radius in zip(x, y, rng.uniform(21, 38, len(x)), strict=True):
        cv2.circle(mask, (round(center_x), round(center_y)), round(radius), 255, -1, cv2.LINE_AA)
    empty = np.float32(0.95) * cv2.GaussianBlur(mask, (0, 0), 1.5).astype(np.float32) / 255
    for layer in stains:
        layer *= 1 - empty


def _paint_nests(regions: Regions, stains: Stains) -> None:
    """Fill tumor nests with amphophilic cytoplasm: less eosin than stroma, more hematoxylin."""
    nests = cv2.GaussianBlur(_enlarged(regions.nests), (0, 0), 4)
    stains.eosin[:] = stains.eosin * (1 - nests) + np.float32(0.33) * nests
    stains.hematoxylin[:] += np.float32(0.14) * nests


def _paint_red_cells(regions: Regions, stains: Stains, *, rng: np.random.Generator) -> None:
    """Strew red blood cells in a few vessels: bright eosin, no nucleus."""
    field = smooth_field(rng, height=regions.tissue.shape[0], width=regions.tissue.shape[1], grain_px=18)
    room = regions.tissue * (1 - regions.nests) * (1 - regions.glandular)
    vessels = np.float32(0.8) * room * (field > np.quantile(field, 0.988))
    x, y = scatter(vessels, spacing_px=13, scale=SCALE, rng=rng)
    mask = np.zeros(stains.eosin.shape, np.uint8)
    for center_x, center_y in zip(x, y, strict=True):
        cv2.circle(mask, (round(center_x), round(center_y)), 6, 255, -1, cv2.LINE_AA)
    cells = cv2.GaussianBlur(mask, (0, 0), 1).astype(np.float32) / 255
    stains.eosin[:] = np.maximum(stains.eosin, np.float32(0.85) * cells)


def _nuclei(
    regions: Regions, glands: Glands, *, palette: Palette, traits: Traits, rng: np.random.Generator
) -> Concentration:
    canvas = np.zeros(tuple(SCALE * extent for extent in regions.tissue.shape), np.float32)
    benign = regions.tissue * (1 - regions.nests)
    gland_free = benign * (1 - _gland_cover(glands, regions.tissue.shape))
    place(gland_cells(glands, reactive=False, rng=rng), palette.epithelial, canvas=canvas, rng=rng)
    place(gland_cells(glands, reactive=True, rng=rng), palette.reactive, canvas=canvas, rng=rng)
    stroma = gland_free * (1 - regions.fat * np.float32(0.8))
    _strew(stroma * np.float32(0.55), palette.spindle, spacing_px=34, canvas=canvas, rng=rng)
    strewn = smooth_field(rng, height=benign.shape[0], width=benign.shape[1], grain_px=250 / SCALE)
    few = stroma * np.clip(traits.lymphocytes * np.exp(strewn - 0.5), 0, 0.8)
    _strew(np.maximum(few, regions.lymphoid), palette.lymphocyte, spacing_px=15, canvas=canvas, rng=rng)
    spacing = palette.tumor_spacing_px
    _strew(regions.nests * np.float32(0.9), palette.tumor, spacing_px=spacing, canvas=canvas, rng=rng)
    return canvas


def _strew(
    density: Concentration,
    stamps: Stamps,
    *,
    spacing_px: float,
    canvas: Concentration,
    rng: np.random.Generator,
) -> None:
    x, y = scatter(density, spacing_px=spacing_px, scale=SCALE, rng=rng)
    directions = smooth_field(rng, height=density.shape[0], width=density.shape[1], grain_px=40) * 1.2
    angle = lookup(directions, x, y, scale=SCALE) + rng.normal(0, 0.35, len(x))
    place(Cells(x, y, angle), stamps, canvas=canvas, rng=rng)


def _gland_cover(glands: Glands, shape: tuple[int, ...]) -> Float32[np.ndarray, "rows columns"]:
    mask = np.zeros(shape, np.uint8)
    for x, y, radius in zip(glands.x, glands.y, glands.length, strict=True):
        cv2.circle(mask, (round(x / SCALE), round(y / SCALE)), round(0.95 * radius / SCALE), 1, -1)
    return mask.astype(np.float32)


def _thickness(
    outline: shapely.Polygon, *, shape: tuple[int, int], folds: int, rng: np.random.Generator
) -> Concentration:
    """Section thickness (1 inside the outline, 0 outside, up to 2.2 on a fold, where tissue lies double)."""
    height, width = shape
    inside = fill(outline, height=height, width=width, shrink=1)
    frayed = _enlarged(smooth_field(rng, height=height // SCALE, width=width // SCALE, grain_px=2.5))
    soft = cv2.GaussianBlur(inside, (0, 0), 7)
    torn = soft + np.float32(0.9) * frayed * soft * (1 - soft) > EDGE_LEVEL
    thickness = cv2.GaussianBlur(torn.astype(np.float32), (0, 0), 1.5)
    lines = np.zeros((height // 4, width // 4), np.uint8)
    for _ in range(folds):
        start = rng.uniform(0.25, 0.75, 2) * (width, height)
        steps = np.cumsum(rng.normal(rng.uniform(-60, 60, 2), 18, (8, 2)), axis=0)
        points = np.round((start + steps) / 4).astype(np.int32)
        cv2.polylines(lines, [points], isClosed=False, color=255, thickness=int(rng.integers(5, 11)))
    raised = cv2.resize(cv2.GaussianBlur(lines, (0, 0), 1.2), (width, height)).astype(np.float32) / 255
    uneven = _enlarged(smooth_field(rng, height=height // SCALE, width=width // SCALE, grain_px=60))
    return np.asarray(thickness * (1 + np.float32(0.06) * uneven + np.float32(0.9) * raised), np.float32)


def _grain(shape: tuple[int, int], *, rng: np.random.Generator) -> Concentration:
    """Draw the fine granules of cytoplasm and matrix: factors around 1, a small field repeated over the canvas."""
    small = cv2.GaussianBlur(rng.standard_normal((GRAIN_PX, GRAIN_PX), dtype=np.float32), (0, 0), 1.1)
    repeats = [-(-extent // GRAIN_PX) for extent in shape]
    factors = 1 + np.float32(0.11) * small / small.std()
    return np.asarray(np.tile(factors, repeats)[: shape[0], : shape[1]], np.float32)


def _dilated(mask: Float32[np.ndarray, "rows columns"], radius: int) -> Float32[np.ndarray, "rows columns"]:
    return np.asarray(cv2.dilate(mask, np.ones((2 * radius + 1,) * 2, np.uint8)), np.float32)


def _enlarged(field: Float32[np.ndarray, "rows columns"]) -> Float32[np.ndarray, "height width"]:
    return np.asarray(cv2.resize(field, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_LINEAR), np.float32)

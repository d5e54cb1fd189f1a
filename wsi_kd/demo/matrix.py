"""What lies between the cells: collagen, fat, red blood cells, the section's thickness and its folds.

Fields that say what grows where are SCALE times coarser than the pixels.
"""

from typing import NamedTuple

import cv2
import numpy as np
import shapely
from jaxtyping import Float32

from wsi_kd.demo.anatomy import Field, fill, smooth_field
from wsi_kd.demo.nuclei import scatter
from wsi_kd.demo.stains import Concentration

SCALE = 8
TEXTURE_PX = 1024
GRAIN_PX = 499
BEND_PX = 42
EDGE_LEVEL = 0.5


class Stains(NamedTuple):
    """The two stain concentrations of a canvas."""

    hematoxylin: Concentration
    eosin: Concentration


def weave_stroma(shape: tuple[int, int], *, rng: np.random.Generator) -> Stains:
    """Weave wavy collagen: stretched noise, bent by a smooth displacement, torn where it is thin."""
    height, width = shape
    bend_x, bend_y = (
        smooth_field(rng, height=height // SCALE, width=width // SCALE, grain_px=35.0) for _ in "xy"
    )
    turn = rng.uniform(0, np.pi)
    y, x = np.mgrid[: height // SCALE, : width // SCALE].astype(np.float32) * SCALE
    along = x * np.cos(turn) + y * np.sin(turn) + BEND_PX * bend_x
    across = y * np.cos(turn) - x * np.sin(turn) + BEND_PX * bend_y
    map_x, map_y = (enlarge(grid.astype(np.float32)) for grid in (along, across))
    fibers = cv2.remap(_fiber_texture(rng), map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    density = enlarge(smooth_field(rng, height=height // SCALE, width=width // SCALE, grain_px=40.0))
    eosin = np.float32(0.40) + np.float32(0.07) * density + np.float32(0.085) * fibers
    clefts = cv2.GaussianBlur((fibers < -1.9 - 0.4 * density).astype(np.float32), (0, 0), 1.2)
    eosin = np.clip(eosin, 0.12, 1.0) * (1 - np.float32(0.85) * clefts)
    hematoxylin = np.float32(0.05) + np.float32(0.015) * fibers
    return Stains(np.maximum(hematoxylin, 0), eosin)


def paint_fat(fat: Field, stains: Stains, *, rng: np.random.Generator) -> None:
    """Empty round fat cells with thin walls."""
    x, y = scatter(fat, spacing_px=60.0, scale=SCALE, rng=rng, jitter=0.28)
    mask = np.zeros(stains.eosin.shape, np.uint8)
    for center_x, center_y, radius in zip(x, y, rng.uniform(21, 38, len(x)), strict=True):
        cv2.circle(mask, (round(center_x), round(center_y)), round(radius), 255, -1, cv2.LINE_AA)
    empty = np.float32(0.95) * cv2.GaussianBlur(mask, (0, 0), 1.5).astype(np.float32) / 255
    for layer in stains:
        np.multiply(layer, 1 - empty, out=layer)


def paint_red_cells(room: Field, stains: Stains, *, rng: np.random.Generator) -> None:
    """Strew red blood cells in a few vessels: bright eosin, no nucleus."""
    field = smooth_field(rng, height=room.shape[0], width=room.shape[1], grain_px=18.0)
    vessels = np.float32(0.8) * room * (field > np.quantile(field, 0.988))
    x, y = scatter(vessels, spacing_px=13.0, scale=SCALE, rng=rng)
    mask = np.zeros(stains.eosin.shape, np.uint8)
    for center_x, center_y in zip(x, y, strict=True):
        cv2.circle(mask, (round(center_x), round(center_y)), 6, 255, -1, cv2.LINE_AA)
    cells = cv2.GaussianBlur(mask, (0, 0), 1).astype(np.float32) / 255
    stains.eosin[:] = np.maximum(stains.eosin, np.float32(0.85) * cells)


def draw_thickness(
    outline: shapely.Polygon, *, shape: tuple[int, int], folds: int, rng: np.random.Generator
) -> Concentration:
    """Section thickness (1 inside the outline, 0 outside, up to 2.2 on a fold, where tissue lies double)."""
    height, width = shape
    inside = fill(outline, height=height, width=width, shrink=1)
    frayed = enlarge(smooth_field(rng, height=height // SCALE, width=width // SCALE, grain_px=2.5))
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
    uneven = enlarge(smooth_field(rng, height=height // SCALE, width=width // SCALE, grain_px=60.0))
    return np.asarray(thickness * (1 + np.float32(0.06) * uneven + np.float32(0.9) * raised), np.float32)


def draw_grain(shape: tuple[int, int], *, rng: np.random.Generator) -> Concentration:
    """Draw the fine granules of cytoplasm and matrix: factors around 1, one small field repeated."""
    small = cv2.GaussianBlur(rng.standard_normal((GRAIN_PX, GRAIN_PX), dtype=np.float32), (0, 0), 1.1)
    repeats = [-(-extent // GRAIN_PX) for extent in shape]
    factors = 1 + np.float32(0.11) * small / small.std()
    return np.asarray(np.tile(factors, repeats)[: shape[0], : shape[1]], np.float32)


def enlarge(field: Field) -> Float32[np.ndarray, "height width"]:
    """Bring a coarse field to the pixels: SCALE times larger, bilinear."""
    return np.asarray(cv2.resize(field, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_LINEAR), np.float32)


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
    return np.asarray(texture / texture.std(), np.float32)

"""Glands: a lumen, a ring of epithelium around it, and nuclei that stand on its outer edge."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from wsi_kd.demo.anatomy import Field, Traits, smooth_field
from wsi_kd.demo.nuclei import Cells, lookup, scatter
from wsi_kd.demo.stains import Concentration

SPACING_PX = 150.0
RING_SPACING_PX = 11.5
CROWDED_SPACING_PX = 9.5
SHIFT_BITS = 3
"""cv2 takes ellipses in fixed point: 3 bits are an eighth of a pixel."""


class Glands(NamedTuple):
    """Ellipses in pixels of the canvas: center, semi-axes, angle (radians), and whether they are reactive."""

    x: Float[np.ndarray, "glands"]
    y: Float[np.ndarray, "glands"]
    length: Float[np.ndarray, "glands"]
    width: Float[np.ndarray, "glands"]
    angle: Float[np.ndarray, "glands"]
    lumen: Float[np.ndarray, "glands"]
    reactive: Bool[np.ndarray, "glands"]


def draw_glands(room: Field, *, scale: int, traits: Traits, rng: np.random.Generator) -> Glands:
    """Draw glands where `room` (0-1, `scale` times coarser than the canvas) has space for them."""
    x, y = scatter(room, spacing_px=SPACING_PX, scale=scale, rng=rng, jitter=0.2)
    count = len(x)
    length = rng.uniform(48, 74, count)
    reactive_field = smooth_field(rng, height=room.shape[0], width=room.shape[1], grain_px=420 / scale)
    limit = np.quantile(reactive_field, 1 - traits.reactive_share) if traits.reactive_share else np.inf
    return Glands(
        x=x,
        y=y,
        length=length,
        width=length * rng.uniform(0.68, 0.98, count),
        angle=rng.uniform(0, np.pi, count),
        lumen=rng.uniform(0.18, 0.45, count),
        reactive=lookup(reactive_field, x, y, scale=scale) > limit,
    )


def paint_glands(
    glands: Glands, *, hematoxylin: Concentration, eosin: Concentration, rng: np.random.Generator
) -> None:
    """Paint cytoplasm, mucin vacuoles and lumina (in place); nuclei come later, from `gland_cells`."""
    epithelium = _ellipses(glands, hematoxylin.shape, share=np.ones(len(glands.x)))
    lumen = _ellipses(glands, hematoxylin.shape, share=glands.lumen)
    vacuoles = _vacuoles(glands, hematoxylin.shape, rng=rng)
    cytoplasm = epithelium * (1 - 0.75 * vacuoles)
    eosin *= 1 - epithelium
    eosin += cytoplasm * np.float32(0.34)
    hematoxylin += cytoplasm * np.float32(0.13)
    for layer in (hematoxylin, eosin):
        np.multiply(layer, 1 - lumen * np.float32(0.93), out=layer)


def gland_cells(glands: Glands, *, reactive: bool, rng: np.random.Generator) -> Cells:
    """Line up the nuclei of all normal (or all reactive) glands along their basement membranes.

    Reactive glands are crowded: their nuclei stand closer and at uneven heights (pseudostratified).
    """
    spacing = CROWDED_SPACING_PX if reactive else RING_SPACING_PX
    chosen = np.flatnonzero(glands.reactive == reactive)
    perimeter = np.pi * (glands.length[chosen] + glands.width[chosen])
    counts = np.maximum(6, perimeter * 0.8 / spacing).astype(np.int64)
    owner = np.repeat(chosen, counts)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    theta = 2 * np.pi * (step + rng.uniform(-0.25, 0.25, len(owner))) / np.repeat(counts, counts)
    height = rng.uniform(0.56, 0.88, len(owner)) if reactive else rng.normal(0.80, 0.035, len(owner))
    u = glands.length[owner] * height * np.cos(theta)
    v = glands.width[owner] * height * np.sin(theta)
    turn = glands.angle[owner]
    x = glands.x[owner] + u * np.cos(turn) - v * np.sin(turn)
    y = glands.y[owner] + u * np.sin(turn) + v * np.cos(turn)
    outward = np.arctan2(v / glands.width[owner] ** 2, u / glands.length[owner] ** 2) + turn
    return Cells(x, y, outward + rng.normal(0, 0.25, len(owner)))


def _ellipses(
    glands: Glands, shape: tuple[int, ...], *, share: Float[np.ndarray, "glands"]
) -> Float32[np.ndarray, "height width"]:
    mask: UInt8[np.ndarray, "height width"] = np.zeros(shape, np.uint8)
    unit = 1 << SHIFT_BITS
    for index in range(len(glands.x)):
        center = (round(glands.x[index] * unit), round(glands.y[index] * unit))
        axes = (
            round(glands.length[index] * share[index] * unit),
            round(glands.width[index] * share[index] * unit),
        )
        degrees = float(np.degrees(glands.angle[index]))
        cv2.ellipse(mask, center, axes, degrees, 0, 360, 255, -1, cv2.LINE_AA, SHIFT_BITS)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 1.5), np.float32) / np.float32(255)


def _vacuoles(
    glands: Glands, shape: tuple[int, ...], *, rng: np.random.Generator
) -> Float32[np.ndarray, "height width"]:
    mask: UInt8[np.ndarray, "height width"] = np.zeros(shape, np.uint8)
    for index in np.flatnonzero(~glands.reactive):
        for angle in rng.uniform(0, 2 * np.pi, int(rng.integers(3, 14))):
            reach = 0.55 * (glands.length[index] + glands.width[index]) / 2
            center = (
                round(glands.x[index] + reach * np.cos(angle)),
                round(glands.y[index] + reach * np.sin(angle)),
            )
            cv2.circle(mask, center, int(rng.integers(4, 9)), 255, -1, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 1.2), np.float32) / np.float32(255)

"""Nuclei as small stamps of hematoxylin: drawn once a slide, then placed by the thousand."""

from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Float32, Int64

from wsi_kd.demo.anatomy import Field
from wsi_kd.demo.stains import Concentration

Stamps: TypeAlias = Float32[np.ndarray, "orientations variants edge edge"]
"""Hematoxylin concentration of nuclei, turned in equal steps over half a circle."""

ORIENTATIONS = 16
VARIANTS = 8
LOBES = (2, 3, 4, 5)


class NucleusKind(NamedTuple):
    """How nuclei of one cell type look; lengths are semi-axes in level-0 pixels (0.5 um)."""

    length_px: float
    width_px: float
    size_spread: float
    """Standard deviation of the logarithm of the size."""
    irregularity: float
    """How far the outline leaves the ellipse, as a share of the radius."""
    darkness: float
    """Mean hematoxylin concentration."""
    chromatin: float
    """Contrast of the clumps inside."""
    nucleoli: int


class Cells(NamedTuple):
    """Where nuclei of one kind lie, in pixels of the canvas, and how they are turned (radians)."""

    x: Float[np.ndarray, "cells"]
    y: Float[np.ndarray, "cells"]
    angle: Float[np.ndarray, "cells"]


def draw_stamps(kind: NucleusKind, rng: np.random.Generator) -> Stamps:
    """Draw ORIENTATIONS x VARIANTS nuclei of one kind: lobed ellipses, clumps, a rim, nucleoli."""
    reach = int(np.ceil(kind.length_px * np.exp(2 * kind.size_spread) * (1 + 2 * kind.irregularity))) + 2
    axis = np.arange(-reach, reach + 1, dtype=np.float32)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    stamps = np.empty((ORIENTATIONS, VARIANTS, len(axis), len(axis)), np.float32)
    for orientation in range(ORIENTATIONS):
        angle = np.pi * orientation / ORIENTATIONS
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        for variant in range(VARIANTS):
            stamps[orientation, variant] = _nucleus(along, across, kind=kind, rng=rng)
    return stamps


def place(
    cells: Cells, stamps: Stamps, *, canvas: Concentration, rng: np.random.Generator, contrast: float = 0.15
) -> None:
    """Lay a stamp on `canvas` (in place) at every cell; where nuclei overlap the darker one is seen.

    Cells whose stamp would cross the edge of the canvas are left out. `contrast` is the standard deviation of
    the logarithm of the darkness between cells.
    """
    edge = stamps.shape[-1]
    left, top = (np.round(values).astype(np.int64) - edge // 2 for values in (cells.x, cells.y))
    inside = (left >= 0) & (top >= 0) & (left + edge <= canvas.shape[1]) & (top + edge <= canvas.shape[0])
    orientation = np.round(cells.angle / np.pi * ORIENTATIONS).astype(np.int64) % ORIENTATIONS
    variant = rng.integers(0, stamps.shape[1], len(left))
    darkness = np.exp(rng.normal(0, contrast, len(left))).astype(np.float32)
    for index in np.flatnonzero(inside):
        row, column = top[index], left[index]
        window = canvas[row : row + edge, column : column + edge]
        np.maximum(window, stamps[orientation[index], variant[index]] * darkness[index], out=window)


def scatter(
    density: Field, *, spacing_px: float, scale: int, rng: np.random.Generator, jitter: float = 0.42
) -> tuple[Float[np.ndarray, "cells"], Float[np.ndarray, "cells"]]:
    """Draw positions on a shaken grid, each kept with the probability that `density` (0-1) holds there.

    `density` is `scale` times coarser than the canvas whose pixels the positions count. Neighbors keep apart,
    as cells do, which uniform random positions would not.
    """
    height, width = density.shape[0] * scale, density.shape[1] * scale
    columns, rows = (np.arange(spacing_px / 2, extent, spacing_px) for extent in (width, height))
    x, y = (grid.ravel() for grid in np.meshgrid(columns, rows))
    x, y = (values + rng.uniform(-jitter, jitter, len(values)) * spacing_px for values in (x, y))
    kept = rng.random(len(x)) < lookup(density, x, y, scale=scale)
    return x[kept], y[kept]


def lookup(
    field: np.ndarray,
    x: Float[np.ndarray, "cells"] | Int64[np.ndarray, "cells"],
    y: Float[np.ndarray, "cells"] | Int64[np.ndarray, "cells"],
    *,
    scale: int,
) -> np.ndarray:
    """Read a field that is `scale` times coarser than the positions; those beyond the edge read the edge."""
    column = np.clip(x / scale, 0, field.shape[1] - 1).astype(np.int64)
    row = np.clip(y / scale, 0, field.shape[0] - 1).astype(np.int64)
    values: np.ndarray = field[row, column]
    return values


def _nucleus(
    along: np.ndarray, across: np.ndarray, *, kind: NucleusKind, rng: np.random.Generator
) -> np.ndarray:
    size = float(
        np.exp(np.clip(rng.normal(0, kind.size_spread), -2 * kind.size_spread, 2 * kind.size_spread))
    )
    u, v = along / (kind.length_px * size), across / (kind.width_px * size)
    theta = np.arctan2(v, u)
    outline = 1 + sum(
        rng.normal(0, kind.irregularity / lobe) * np.cos(lobe * theta + rng.uniform(0, 2 * np.pi))
        for lobe in LOBES
    )
    distance = np.hypot(u, v) / outline
    body = 1 / (1 + np.exp((distance - 1) * kind.width_px * size * 1.6))
    clumps = _clumps(u, v, rng=rng)
    texture = 1 + kind.chromatin * clumps + 0.25 * np.exp(-(((distance - 0.88) / 0.14) ** 2))
    for _ in range(rng.integers(0, kind.nucleoli + 1)):
        center_u, center_v = rng.uniform(-0.45, 0.45, 2)
        texture += 0.7 * np.exp(-((u - center_u) ** 2 + (v - center_v) ** 2) / 0.03)
    concentration: np.ndarray = kind.darkness * body * np.clip(texture, 0.2, 2.2)
    return concentration


def _clumps(u: np.ndarray, v: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Sum a few plane waves of random direction: a cheap smooth noise of unit variance inside the nucleus."""
    waves = np.zeros_like(u)
    count = 10
    for _ in range(count):
        direction, frequency, phase = rng.uniform(0, 2 * np.pi), rng.uniform(5, 14), rng.uniform(0, 2 * np.pi)
        waves += np.cos(frequency * (u * np.cos(direction) + v * np.sin(direction)) + phase)
    scaled: np.ndarray = waves * np.sqrt(2 / count)
    return scaled

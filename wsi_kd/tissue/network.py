"""Tissue by a segmentation network, block by block: no more than one block's pixels are held at a time."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Int64

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.core.shapes import Mask, Pixels
from wsi_kd.core.units import Box
from wsi_kd.slides.icc import Color, recolor
from wsi_kd.slides.protocol import SlideReader
from wsi_kd.slides.pyramid import ReadPlan, plan_read, read_tile
from wsi_kd.tissue.segmentation_network import SegmentationNetwork, class_map

TISSUE = "tissue"
MPP_TOLERANCE = 0.05
"""Share by which a slide may be coarser than the network's resolution and is enlarged."""
UM2_PER_MM2 = 1e6
HALF = 0.5

ClassMap = Float32[np.ndarray, "rows columns"]


class NetworkInput(NamedTuple):
    """What a network was trained on and what its channels mean."""

    mpp: float
    tile_px: int
    margin_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    classes: tuple[str, ...]


class NetworkMask(NamedTuple):
    """Where the network sees tissue, and how much of each class it sees within the slide's bounds."""

    tissue: Mask
    """Pixel (row, column) starts at the bounds' corner + (column, row) x level0_px_per_px."""
    level0_px_per_px: float
    class_mm2: dict[str, float]


class _Grid(NamedTuple):
    """How the bounds are cut into cores of blocks, and cores into pixels of the mask."""

    bounds: Box
    core_px: int
    """Edge of a core in pixels of the network."""
    px_level0: float
    """Edge of a pixel of the network in level-0 pixels."""
    cells: int
    """Pixels of the mask along a core."""

    @property
    def cell_level0(self) -> float:
        """Edge of a pixel of the mask in level-0 pixels."""
        return self.core_px * self.px_level0 / self.cells


def segment_by_network(
    reader: SlideReader,
    network: SegmentationNetwork,
    *,
    given: NetworkInput,
    slide_mpp: float,
    mask_mpp: float,
    color: Color = "as_stored",
) -> NetworkMask:
    """Run a network over the slide's bounds.

    Blocks of `tile_px` are read at `mpp` (area means, like tiles); of each output the core without its
    margins counts, so that every place is judged with at least `margin_px` of surroundings. A pixel of the
    mask is tissue where the network calls at least half of it so; its size is the core's edge divided by a
    whole number, about `mask_mpp`.

    Args:
        reader: the slide.
        network: the loaded network.
        given: its input and classes.
        slide_mpp: um/px of level 0.
        mask_mpp: um/px that the mask shall have, about.
        color: srgb shows the network the slide by its ICC profile.

    Raises:
        SlideProblem: too_coarse where the slide is coarser than the network asks for; unreadable where a
            block cannot be read.
        BadInput: the network does not take these blocks, or its output has another form.
    """
    plan, change = _plan(reader, given, slide_mpp=slide_mpp), recolor(reader, color)
    core_px = given.tile_px - 2 * given.margin_px
    cells = min(core_px, max(1, round(core_px * given.mpp / mask_mpp)))
    grid = _Grid(reader.bounds, core_px, given.mpp / slide_mpp, cells)
    height, width = (math.ceil(length / grid.cell_level0 - 1e-6) for length in reader.bounds[:1:-1])
    tissue = np.zeros((height, width), bool)
    counted = np.zeros(len(given.classes), np.int64)
    for row in range(-(-height // cells)):
        for column in range(-(-width // cells)):
            pixels = _read(reader, plan, grid, at=(row, column), margin_px=given.margin_px)
            pixels = pixels if change is None else change(pixels)
            found = class_map(network, _normalized(pixels, given), classes=len(given.classes))
            core = found[given.margin_px :, given.margin_px :][:core_px, :core_px]
            counted += _count(core, grid, at=(row, column), classes=len(given.classes))
            share = _tissue_share(core, grid, index=given.classes.index(TISSUE))
            place = tissue[row * cells :, column * cells :][:cells, :cells]
            place[:] = (share >= HALF)[: place.shape[0], : place.shape[1]]
    mm2 = counted * given.mpp**2 / UM2_PER_MM2
    return NetworkMask(tissue, grid.cell_level0, _by_name(given.classes, mm2.tolist()))


def _plan(reader: SlideReader, given: NetworkInput, *, slide_mpp: float) -> ReadPlan:
    try:
        return plan_read(
            reader.level_downsamples,
            slide_mpp=slide_mpp,
            tile_mpp=given.mpp,
            tile_px=given.tile_px,
            mpp_tolerance=MPP_TOLERANCE,
        )
    except SlideProblem:
        reason = (
            f"scanned at {slide_mpp:.4g} um/px, the segmentation network needs {given.mpp:g}; use "
            "mask.source thumbnail, or draw the tissue and put it into mask.edited_dir"
        )
        raise SlideProblem(SlideStatus.TOO_COARSE, reason) from None


def _read(reader: SlideReader, plan: ReadPlan, grid: _Grid, *, at: tuple[int, int], margin_px: int) -> Pixels:
    row, column = at
    x = grid.bounds.x_level0_px + (column * grid.core_px - margin_px) * grid.px_level0
    y = grid.bounds.y_level0_px + (row * grid.core_px - margin_px) * grid.px_level0
    return read_tile(reader, x_level0_px=round(x), y_level0_px=round(y), plan=plan)


def _normalized(pixels: Pixels, given: NetworkInput) -> Float32[np.ndarray, "1 3 rows columns"]:
    mean, std = (np.asarray(values, np.float32) for values in (given.mean, given.std))
    scaled = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def _count(core: ClassMap, grid: _Grid, *, at: tuple[int, int], classes: int) -> Int64[np.ndarray, "classes"]:
    """Count the pixels of each class inside the bounds; a core may reach beyond them."""
    row, column = at
    height, width = (math.ceil(length / grid.px_level0 - 1e-6) for length in grid.bounds[:1:-1])
    inside = core[: height - row * grid.core_px, : width - column * grid.core_px]
    return np.bincount(inside.astype(np.int64).ravel(), minlength=classes)


def _tissue_share(
    core: ClassMap, grid: _Grid, *, index: int
) -> Float32[np.ndarray, "{grid.cells} {grid.cells}"]:
    """Return the share of each of the core's cells that is tissue."""
    is_tissue = (core == index).astype(np.float32)
    size = (grid.cells, grid.cells)
    return np.asarray(cv2.resize(is_tissue, size, interpolation=cv2.INTER_AREA), np.float32)


def _by_name(classes: Sequence[str], mm2: Sequence[float]) -> dict[str, float]:
    """Add up channels of one name: networks may have two for the background."""
    total = dict.fromkeys(classes, 0.0)
    for name, area in zip(classes, mm2, strict=True):
        total[name] += area
    return total

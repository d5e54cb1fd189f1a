"""Draw one slide of the cohort: tissue, stain, file, annotation; and the faults that odd slides have."""

import json
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import cv2
import numpy as np
import shapely
from jaxtyping import UInt8

from wsi_kd.core.files import publish, publish_text
from wsi_kd.demo.anatomy import Layout, draw_layout, draw_traits
from wsi_kd.demo.matrix import SCALE, Stains
from wsi_kd.demo.palette import draw_palette
from wsi_kd.demo.pyramid import write_pyramid
from wsi_kd.demo.stains import Stain, develop
from wsi_kd.demo.tissue import paint_piece

Oddity: TypeAlias = Literal["", "empty", "missing_mpp", "truncated", "transparent"]

MPP = 0.5
TILE_PX = 256
POSITIVE = "tumor"
NEGATIVE = "normal"
ANNOTATION_NAME = "Tumor"
KEPT_SHARE = 0.4
MARGIN_PX = 4 * SCALE


class SlidePlan(NamedTuple):
    """Everything that determines the bytes of one slide."""

    slide_id: str
    case_id: str
    label: str
    site: str
    seed: tuple[int, ...]
    stain: Stain
    oddity: Oddity


class DrawnSlide(NamedTuple):
    """The files of one slide; a slide without tumor has no annotation."""

    slide: Path
    annotation: Path | None


def draw_slide(plan: SlidePlan, folder: Path) -> DrawnSlide:
    """Draw `slides/<slide_id>.tiff` and, with tumor, `annotations/<slide_id>.geojson` below `folder`.

    Equal plans give equal bytes.

    Raises:
        RunFailed: a file cannot be written.
    """
    rng = np.random.default_rng(plan.seed)
    layout = draw_layout(rng, with_tumor=plan.label == POSITIVE, with_tissue=plan.oddity != "empty")
    stains = _paint(layout, rng=rng)
    pixels = develop(stains.hematoxylin, stains.eosin, stain=plan.stain, rng=rng)
    path = folder / "slides" / f"{plan.slide_id}.tiff"
    write_pyramid(
        path,
        _without_glass(pixels, layout) if plan.oddity == "transparent" else pixels,
        mpp=None if plan.oddity == "missing_mpp" else MPP,
        tile_px=TILE_PX,
        jpeg_quality=plan.stain.jpeg_quality,
    )
    if plan.oddity == "truncated":
        _truncate(path)
    if layout.tumor.is_empty:
        return DrawnSlide(path, None)
    annotation = folder / "annotations" / f"{plan.slide_id}.geojson"
    publish_text(annotation, _geojson(layout.tumor))
    return DrawnSlide(path, annotation)


def _paint(layout: Layout, *, rng: np.random.Generator) -> Stains:
    traits = draw_traits(rng)
    palette = draw_palette(traits, rng)
    shape = (layout.height_px, layout.width_px)
    whole = Stains(np.zeros(shape, np.float32), np.zeros(shape, np.float32))
    for outline in layout.pieces:
        left, top, right, bottom = _frame(outline, layout)
        piece = paint_piece(
            outline,
            layout.tumor,
            origin=(left, top),
            shape=(bottom - top, right - left),
            traits=traits,
            palette=palette,
            rng=rng,
        )
        for canvas, layer in zip(whole, piece, strict=True):
            window = canvas[top:bottom, left:right]
            np.maximum(window, layer, out=window)
    _strew_dust(whole, rng=rng)
    return whole


def _frame(outline: shapely.Polygon, layout: Layout) -> tuple[int, int, int, int]:
    """Bound a piece with some margin, on multiples of SCALE, within the slide: left, top, right, bottom."""
    left, top, right, bottom = outline.bounds
    return (
        SCALE * max(0, int(left - MARGIN_PX) // SCALE),
        SCALE * max(0, int(top - MARGIN_PX) // SCALE),
        min(layout.width_px, SCALE * (int(right + MARGIN_PX) // SCALE)),
        min(layout.height_px, SCALE * (int(bottom + MARGIN_PX) // SCALE)),
    )


def _strew_dust(stains: Stains, *, rng: np.random.Generator) -> None:
    """Leave a few specks on the glass, out of focus."""
    height, width = stains.eosin.shape
    for _ in range(int(rng.integers(5, 25))):
        reach = int(rng.integers(6, 20))
        x, y = int(rng.integers(reach, width - reach)), int(rng.integers(reach, height - reach))
        axis = np.linspace(-2, 2, 2 * reach, dtype=np.float32)
        speck = np.float32(rng.uniform(0.1, 0.4)) * np.exp(-(axis[:, None] ** 2 + axis**2))
        stains.hematoxylin[y - reach : y + reach, x - reach : x + reach] += speck
        stains.eosin[y - reach : y + reach, x - reach : x + reach] += speck


def _without_glass(
    pixels: UInt8[np.ndarray, "height width 3"], layout: Layout
) -> UInt8[np.ndarray, "height width 4"]:
    """Make every file tile that no piece touches transparent (and black), as scanners skip bare glass."""
    height, width = pixels.shape[:2]
    alpha = np.zeros((height, width, 1), np.uint8)
    tissue = shapely.union_all(layout.pieces)
    for y in range(0, height, TILE_PX):
        for x in range(0, width, TILE_PX):
            if tissue.intersects(shapely.box(x, y, x + TILE_PX, y + TILE_PX)):
                alpha[y : y + TILE_PX, x : x + TILE_PX] = 255
    return np.asarray(np.concatenate([pixels & alpha, alpha], axis=2), np.uint8)


def _truncate(path: Path) -> None:
    content = path.read_bytes()
    with publish(path) as temporary:
        temporary.write_bytes(content[: int(KEPT_SHARE * len(content))])


def _geojson(tumor: shapely.MultiPolygon) -> str:
    """Describe the tumor regions as QuPath does: one annotation a region, level-0 pixels, two decimals."""
    features = [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[round(x, 2), round(y, 2)] for x, y in region.exterior.coords]],
            },
            "properties": {
                "objectType": "annotation",
                "classification": {"name": ANNOTATION_NAME, "color": [200, 0, 0]},
            },
        }
        for region in tumor.geoms
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}) + "\n"


def use_one_thread() -> None:
    """Keep OpenCV to one thread: the cohort is drawn by one process a core."""
    cv2.setNumThreads(1)

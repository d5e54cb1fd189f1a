"""Tile scores drawn over the slide: each at its exact place, overlaps averaged by area, mapping named."""

import math
from pathlib import Path
from typing import NotRequired, TypedDict, Unpack

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from wsi_kd.core.files import publish
from wsi_kd.core.provenance import RESEARCH_ONLY
from wsi_kd.core.shapes import Coords, Mask, Pixels
from wsi_kd.inference.mappings import MappedTiles
from wsi_kd.report.canvas import SMALLEST_EDGE_PX, Page, compose, scale_bar
from wsi_kd.report.overlay import COLORMAPS, OPACITY, Origin, Window, blend, palette, place_tiles, window_map

STRIP_PX = 256
"""Rows that are colored at once: bounds the memory of large pictures."""

PNG_LEVEL = 6
"""9 packs little tighter and takes longer than the whole rest of the picture."""


class Heatmap(TypedDict):
    """What a heatmap is drawn from."""

    pixels: Pixels
    """The thumbnail; one shorter than SMALLEST_EDGE_PX is enlarged."""
    coords: Coords
    """Top-left corners of the tiles, level-0 pixels."""
    mapped: MappedTiles
    """The tiles' scores, what they are called and where the color bar ends; tiles without one stay bare."""
    tile_level0_px: float
    """Edge of a tile in level-0 pixels."""
    level0_px_per_px: float
    """Edge of a thumbnail pixel in level-0 pixels."""
    origin: Origin
    """Level-0 position (x, y) of the thumbnail's top-left corner."""
    title: str
    """Usually the slide id; shortened to fit."""
    slide_mpp: float
    """um per level-0 pixel, for the scale bar."""
    colormap: NotRequired[str]
    """One of COLORMAPS; the first unless told otherwise."""


def draw_heatmap(path: Path, **heatmap: Unpack[Heatmap]) -> None:
    """Write `render_heatmap`'s image as a PNG whose text chunk names the mapping.

    Raises:
        BadInput: an unknown colormap.
        RunFailed: the file cannot be written.
    """
    image = render_heatmap(**heatmap)
    described = PngInfo()
    described.add_itxt("Description", f"{heatmap['mapped'].name} ({heatmap['mapped'].key}). {RESEARCH_ONLY}")
    with publish(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG", compress_level=PNG_LEVEL, pnginfo=described)


def render_heatmap(**heatmap: Unpack[Heatmap]) -> Page:
    """Draw tile scores over a thumbnail: title, color bar naming the mapping, scale bar, research-only line.

    Raises:
        BadInput: an unknown colormap.
    """
    mapped = heatmap["mapped"]
    factor = _enlargement(heatmap["pixels"])
    pixels = _enlarge(heatmap["pixels"], factor)
    level0_px_per_px = heatmap["level0_px_per_px"] / factor
    shades = palette(heatmap.get("colormap", COLORMAPS[0]))
    image = np.empty_like(pixels)
    tiles = place_tiles(heatmap["coords"], mapped.scores, tile_level0_px=heatmap["tile_level0_px"])
    x, y = heatmap["origin"]
    for top in range(0, len(pixels), STRIP_PX):
        strip = pixels[top : top + STRIP_PX]
        window = Window((float(x), y + top * level0_px_per_px), level0_px_per_px, strip.shape[:2])
        image[top : top + STRIP_PX] = blend(
            strip, window_map(tiles, window), colors=shades, ends=(mapped.vmin, mapped.vmax)
        )
    return compose(
        image,
        title=heatmap["title"],
        bar=scale_bar(heatmap["slide_mpp"] * level0_px_per_px, width_px=image.shape[1]),
        colors=ScalarMappable(Normalize(mapped.vmin, mapped.vmax, clip=True), ListedColormap(list(shades))),
        color_label=mapped.name.replace(" x ", " \N{MULTIPLICATION SIGN} "),
        opacity=OPACITY,
    )


def render_slide(pixels: Pixels, *, title: str, um_per_px: float, outline: Mask | None = None) -> Page:
    """Draw a thumbnail as `render_heatmap` places it, in its own colors, to be seen beside heatmaps.

    Args:
        pixels: the thumbnail.
        title: usually the slide id.
        um_per_px: of the thumbnail.
        outline: of the thumbnail's shape; the border of its True parts is drawn.
    """
    factor = _enlargement(pixels)
    image = _enlarge(pixels, factor)
    return compose(
        image,
        title=title,
        bar=scale_bar(um_per_px / factor, width_px=image.shape[1]),
        colors=None,
        outline=None if outline is None else _enlarge(outline, factor),
    )


def _enlargement(pixels: Pixels) -> int:
    longer_px = int(max(pixels.shape[:2]))
    return max(1, math.ceil(SMALLEST_EDGE_PX / longer_px))


def _enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    return image.repeat(factor, axis=0).repeat(factor, axis=1) if factor > 1 else image

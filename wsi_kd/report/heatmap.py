"""Tile scores drawn over the slide: each tile at its exact place, overlaps averaged by area, mapping named.

The tissue below the tiles is shown in gray, so that every color on it is a score. The map is viridis: it
orders by lightness as well as hue, so it reads with every common color vision deficiency and in gray print.
"""

import math
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict, Unpack

import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from PIL import Image
from scipy import sparse

from wsi_kd.core.errors import unknown_name
from wsi_kd.core.files import publish
from wsi_kd.core.shapes import Coords, Mask, Pixels
from wsi_kd.report.canvas import SMALLEST_EDGE_PX, Page, compose, scale_bar

COLORMAP = "viridis"
OPACITY = 0.55


class ScoreRange(NamedTuple):
    """Ends of a mapping's color bar."""

    vmin: float
    vmax: float
    grows: bool = False
    """The upper end is the slide's largest score where that is above vmax."""


MAPPINGS = {
    "student probability": ScoreRange(0.0, 1.0),
    "teacher evidence probability": ScoreRange(0.0, 1.0),
    "attention percentile": ScoreRange(0.0, 100.0),
    "attention x tiles (softmax)": ScoreRange(0.0, 2.0, grows=True),
}
"""What a color can mean; the color bar always says which.

Attention x tiles is 1 for an even spread: its bar ends at 2 at least, so that even attention never looks hot.
"""


class Heatmap(TypedDict):
    """What a heatmap is drawn from."""

    pixels: Pixels
    """The thumbnail; one shorter than SMALLEST_EDGE_PX is enlarged."""
    coords: Coords
    """Top-left corners of the tiles, level-0 pixels."""
    scores: Float[np.ndarray, "tiles"]
    """One a tile, in the units of `mapping`; tiles whose score is not finite stay bare."""
    tile_level0_px: float
    """Edge of a tile in level-0 pixels."""
    level0_px_per_px: float
    """Edge of a thumbnail pixel in level-0 pixels."""
    origin: tuple[int, int]
    """Level-0 position (x, y) of the thumbnail's top-left corner."""
    mapping: str
    """A key of MAPPINGS, written along the color bar."""
    title: str
    """Usually the slide id; shortened to fit."""
    slide_mpp: float
    """um per level-0 pixel, for the scale bar."""
    vmin: NotRequired[float | None]
    """Lower end of the color bar; default: the mapping's."""
    vmax: NotRequired[float | None]
    """Upper end of the color bar; default: the mapping's, or the slide's largest score."""


def score_map(
    coords: Coords,
    scores: Float[np.ndarray, "tiles"],
    *,
    tile_level0_px: float,
    level0_px_per_px: float,
    origin: tuple[int, int],
    shape: tuple[int, int],
) -> Float[np.ndarray, "height width"]:
    """Average the tiles' scores in every pixel of an image, weighted by the area each tile covers of it.

    With Y (tiles, height) and X (tiles, width) the lengths that tile k covers of row i and of column j, the
    area it covers of pixel (i, j) is Y[k, i] X[k, j], hence map = (Y' diag(scores) X) / (Y' X).

    Args:
        coords: top-left corners, level-0 pixels.
        scores: one a tile; tiles whose score is not finite are left out.
        tile_level0_px: edge of a tile.
        level0_px_per_px: edge of an image pixel in level-0 pixels.
        origin: level-0 position (x, y) of the image's top-left corner.
        shape: height and width of the image in pixels.

    Returns:
        float32 (height, width), NaN where no tile lies.
    """
    known = np.isfinite(scores)
    corners = (coords[known] - np.asarray(origin)) / level0_px_per_px
    edge = tile_level0_px / level0_px_per_px
    columns = _covered(corners[:, 0], edge, pixels=shape[1])
    rows = _covered(corners[:, 1], edge, pixels=shape[0])
    areas = (rows.T @ columns).toarray()
    sums = (rows.T @ sparse.diags(scores[known].astype(np.float64)) @ columns).toarray()
    averages = np.full(shape, np.nan)
    np.divide(sums, areas, out=averages, where=areas > 0)
    return averages.astype(np.float32)


def draw_heatmap(path: Path, **heatmap: Unpack[Heatmap]) -> None:
    """Write `render_heatmap`'s image as a PNG.

    Raises:
        BadInput: the mapping is not one of MAPPINGS.
        RunFailed: the file cannot be written.
    """
    image = render_heatmap(**heatmap)
    with publish(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG", optimize=True)


def render_heatmap(**heatmap: Unpack[Heatmap]) -> Pixels:
    """Draw tile scores over a thumbnail: title, color bar naming the mapping, scale bar, research-only line.

    Raises:
        BadInput: the mapping is not one of MAPPINGS.
    """
    mapping = heatmap["mapping"]
    if mapping not in MAPPINGS:
        raise unknown_name("heatmap mapping", mapping, MAPPINGS)
    factor = _enlargement(heatmap["pixels"])
    gray = _pale_gray(_enlarge(heatmap["pixels"], factor))
    level0_px_per_px = heatmap["level0_px_per_px"] / factor
    averages = score_map(
        heatmap["coords"],
        heatmap["scores"],
        tile_level0_px=heatmap["tile_level0_px"],
        level0_px_per_px=level0_px_per_px,
        origin=heatmap["origin"],
        shape=(gray.shape[0], gray.shape[1]),
    )
    ends = _color_ends(averages, MAPPINGS[mapping], vmin=heatmap.get("vmin"), vmax=heatmap.get("vmax"))
    colors = ScalarMappable(ends, colormaps[COLORMAP])
    return compose(
        _blend(gray, averages, colors),
        title=heatmap["title"],
        bar=scale_bar(heatmap["slide_mpp"] * level0_px_per_px, width_px=gray.shape[1]),
        colors=colors,
        color_label=mapping.replace(" x ", " \N{MULTIPLICATION SIGN} "),
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
        image / 255.0,
        title=title,
        bar=scale_bar(um_per_px / factor, width_px=image.shape[1]),
        colors=None,
        outline=None if outline is None else _enlarge(outline, factor),
    )


def _enlargement(pixels: Pixels) -> int:
    longer_px = int(max(pixels.shape[:2]))
    return max(1, math.ceil(SMALLEST_EDGE_PX / longer_px))


def _enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def _covered(starts: Float[np.ndarray, "tiles"], edge: float, *, pixels: int) -> sparse.csr_matrix:
    """Return (tiles, pixels): the length that each interval [start, start + edge] covers of each pixel."""
    reach = int(np.ceil(edge)) + 1
    first = np.floor(starts).astype(np.int64)
    index: Int[np.ndarray, "tiles reach"] = first[:, None] + np.arange(reach)
    lengths = np.minimum(index + 1, starts[:, None] + edge) - np.maximum(index, starts[:, None])
    inside = (lengths > 0) & (index >= 0) & (index < pixels)
    tile, _ = np.nonzero(inside)
    return sparse.csr_matrix((lengths[inside], (tile, index[inside])), shape=(len(starts), pixels))


def _pale_gray(pixels: Pixels) -> Float[np.ndarray, "height width"]:
    """Luminance (ITU-R BT.601) squeezed into 0.35-1: dark nuclei must not darken the colors above them."""
    luminance: Float[np.ndarray, "height width"] = pixels @ np.array([0.299, 0.587, 0.114]) / 255.0
    return 0.35 + 0.65 * luminance


def _color_ends(
    averages: Float[np.ndarray, "height width"],
    ends: ScoreRange,
    *,
    vmin: float | None,
    vmax: float | None,
) -> Normalize:
    low = ends.vmin if vmin is None else vmin
    high = ends.vmax if vmax is None else vmax
    if vmax is None and ends.grows:
        high = float(averages[np.isfinite(averages)].max(initial=high))
    return Normalize(low, high if high > low else low + 1.0, clip=True)


def _blend(
    gray: Float[np.ndarray, "height width"],
    averages: Float[np.ndarray, "height width"],
    colors: ScalarMappable,
) -> Float[np.ndarray, "height width 3"]:
    scored = np.isfinite(averages)
    image = np.repeat(gray[:, :, None], 3, axis=2)
    color = np.asarray(colors.to_rgba(averages[scored]))[:, :3]
    image[scored] = OPACITY * color + (1 - OPACITY) * image[scored]
    return image

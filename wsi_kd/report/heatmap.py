"""Tile scores drawn over the slide: each tile at its exact place, overlaps averaged by area, mapping named.

The tissue below the tiles is shown in gray, so that every color on it is a score. The map is viridis: it
orders by lightness as well as hue, so it reads with every common color vision deficiency and in gray print.
"""

import io
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict, Unpack

import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image
from scipy import sparse

from wsi_kd.core.errors import unknown_name
from wsi_kd.core.files import publish
from wsi_kd.core.provenance import RESEARCH_ONLY
from wsi_kd.core.shapes import Coords, Pixels
from wsi_kd.report.text import plain_text

COLORMAP = "viridis"
OPACITY = 0.55
SMALLEST_EDGE_PX = 480
DPI = 100
TITLE_PX, FOOTER_PX, SIDE_PX, BAR_PX = 40, 46, 12, 96


class ScoreRange(NamedTuple):
    """Ends of a mapping's color bar; None: the largest score of the slide."""

    vmin: float
    vmax: float | None


MAPPINGS = {
    "student probability": ScoreRange(0.0, 1.0),
    "teacher evidence probability": ScoreRange(0.0, 1.0),
    "attention percentile": ScoreRange(0.0, 100.0),
    "attention x tiles (softmax)": ScoreRange(0.0, None),
}
"""What a color can mean; the color bar always says which. Attention x tiles: 1 is an even spread."""


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


class ScaleBar(NamedTuple):
    """A bar of a round length: its extent in image pixels and what is written on it."""

    length_px: float
    label: str


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


def scale_bar(um_per_px: float, *, width_px: int) -> ScaleBar:
    """Choose the longest bar of 1, 2 or 5 x 10^n um that takes at most a quarter of the image's width.

    >>> scale_bar(8.0, width_px=900)
    ScaleBar(length_px=125.0, label='1 mm')
    """
    longest_um = um_per_px * width_px / 4
    decade = 10.0 ** np.floor(np.log10(longest_um))
    length_um = max(step * decade for step in (1, 2, 5) if step * decade <= longest_um)
    um_per_mm = 1000
    in_mm = length_um >= um_per_mm
    label = f"{length_um / um_per_mm:g} mm" if in_mm else f"{length_um:g} \N{MICRO SIGN}m"
    return ScaleBar(length_px=float(length_um / um_per_px), label=label)


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
    factor = max(1, -(-SMALLEST_EDGE_PX // max(heatmap["pixels"].shape[:2])))
    gray = _pale_gray(heatmap["pixels"].repeat(factor, axis=0).repeat(factor, axis=1))
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
    bar = scale_bar(heatmap["slide_mpp"] * level0_px_per_px, width_px=gray.shape[1])
    overlay = _blend(gray, averages, colors)
    return _compose(overlay, colors=colors, mapping=mapping, title=heatmap["title"], bar=bar)


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
    if high is None:
        known = averages[np.isfinite(averages)]
        high = float(known.max(initial=low))
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


def _compose(
    overlay: Float[np.ndarray, "height width 3"],
    *,
    colors: ScalarMappable,
    mapping: str,
    title: str,
    bar: ScaleBar,
) -> Pixels:
    """Place the overlay, pixel for pixel, in a figure with title, color bar and footer."""
    height, width = overlay.shape[:2]
    bar_height = max(height, SMALLEST_EDGE_PX // 2)
    figure_width = max(width + 2 * SIDE_PX + BAR_PX, SMALLEST_EDGE_PX)
    figure_height = bar_height + TITLE_PX + FOOTER_PX
    figure = Figure(figsize=(figure_width / DPI, figure_height / DPI), dpi=DPI, facecolor="white")

    def axes_below_title(left: int, *, wide: int, high: int) -> Axes:
        bottom = figure_height - TITLE_PX - high
        place = (left / figure_width, bottom / figure_height, wide / figure_width, high / figure_height)
        return figure.add_axes(place)

    image_axes = axes_below_title(SIDE_PX, wide=width, high=height)
    image_axes.imshow(overlay, interpolation="nearest", aspect="auto")
    image_axes.set_axis_off()
    bar_axes = axes_below_title(width + 2 * SIDE_PX, wide=16, high=bar_height)
    color_bar = figure.colorbar(colors, cax=bar_axes, alpha=OPACITY)
    color_bar.set_label(mapping.replace(" x ", " \N{MULTIPLICATION SIGN} "), fontsize=9)
    color_bar.ax.tick_params(labelsize=8)
    _write_margins(figure, title=title, bar=bar)
    return _rasterize(figure)


def _write_margins(figure: Figure, *, title: str, bar: ScaleBar) -> None:
    """Write the title above, scale bar and research-only line below; no text is read as math."""
    width, height = figure.get_size_inches() * DPI
    left = SIDE_PX / width
    shown = plain_text(title, limit=int(width / 11))
    figure.text(left, 1 - 26 / height, shown, fontsize=11, weight="bold", parse_math=False)
    margin = figure.add_axes((left, 0, (width - 2 * SIDE_PX) / width, FOOTER_PX / height))
    margin.set(xlim=(0, width - 2 * SIDE_PX), ylim=(0, FOOTER_PX))
    margin.set_axis_off()
    margin.plot([1, 1 + bar.length_px], [34, 34], color="black", linewidth=3, solid_capstyle="butt")
    margin.text(bar.length_px + 8, 34, bar.label, fontsize=9, va="center")
    margin.text(1, 10, RESEARCH_ONLY, fontsize=8, va="center", color="#555555")


def _rasterize(figure: Figure) -> Pixels:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))

"""An image of a slide with what a reader needs around it: title, color bar, scale bar, research-only line."""

import io
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from wsi_kd.core.provenance import RESEARCH_ONLY
from wsi_kd.core.shapes import Mask, Pixels
from wsi_kd.report.text import plain_text

SMALLEST_EDGE_PX = 480
"""Images shorter than this are enlarged first, so that the text fits."""
TEXT_EDGE_PX = 480
"""Text and margins grow with images longer than this, so that they stay legible when shown small."""
DPI = 100
TITLE_PX, FOOTER_PX, SIDE_PX, BAR_PX = 40, 46, 12, 96
OUTLINE_COLOR = "#00e5ff"
COLOR_LABEL_LIMIT = 48
"""Characters that fit along the shortest color bar."""

Page = UInt8[np.ndarray, "page_height page_width 3"]


class ScaleBar(NamedTuple):
    """A bar of a round length: its extent in image pixels and what is written on it."""

    length_px: float
    label: str


class Margins(NamedTuple):
    """Pixels around an image, for its size."""

    title_px: int
    footer_px: int
    side_px: int
    bar_px: int
    dpi: float


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


def margins(shape: tuple[int, ...]) -> Margins:
    """Return the margins of an image (height, width, ...); its corner is at (title_px, side_px)."""
    scale = max(1.0, max(shape[:2]) / TEXT_EDGE_PX)
    title, footer, side, bar = (round(px * scale) for px in (TITLE_PX, FOOTER_PX, SIDE_PX, BAR_PX))
    return Margins(title, footer, side, bar, dpi=DPI * scale)


def compose(
    image: Pixels,
    *,
    title: str,
    bar: ScaleBar,
    colors: ScalarMappable | None,
    color_label: str = "",
    opacity: float = 1.0,
    outline: Mask | None = None,
) -> Page:
    """Place `image`, pixel for pixel, in a figure.

    Args:
        image: the slide, colored or as it is.
        title: written above, shortened to fit.
        bar: drawn below.
        colors: drawn as a color bar at the right, its room left empty when None.
        color_label: what the colors mean; shortened to fit, never read as math.
        opacity: of the color bar, as of the image's colors.
        outline: of the image's shape; the border of its True parts is drawn.
    """
    height, width = image.shape[:2]
    around = margins(image.shape)
    bar_height = max(height, SMALLEST_EDGE_PX // 2)
    figure_width = max(width + 2 * around.side_px + around.bar_px, SMALLEST_EDGE_PX)
    figure_height = bar_height + around.title_px + around.footer_px
    size = ((figure_width + 1e-6) / around.dpi, (figure_height + 1e-6) / around.dpi)
    figure = Figure(figsize=size, dpi=around.dpi, facecolor="white")

    def axes_below_title(left: int, *, wide: int, high: int) -> Axes:
        bottom = figure_height - around.title_px - high
        place = (left / figure_width, bottom / figure_height, wide / figure_width, high / figure_height)
        return figure.add_axes(place)

    is_outlined = outline is not None and outline.any() and not outline.all()
    if outline is not None and is_outlined:
        _draw_outlined(axes_below_title(around.side_px, wide=width, high=height), image, outline)
    if colors is not None:
        wide = round(16 * around.dpi / DPI)
        axes = axes_below_title(width + 2 * around.side_px, wide=wide, high=bar_height)
        color_bar = figure.colorbar(colors, cax=axes, alpha=opacity)
        color_bar.set_label(plain_text(color_label, limit=COLOR_LABEL_LIMIT), fontsize=9, parse_math=False)
        color_bar.ax.tick_params(labelsize=8)
    _write_margins(figure, around, title=title, bar=bar)
    page = _rasterize(figure, width=figure_width, height=figure_height)
    if not is_outlined:  # pixels that matplotlib need not resample: many times the memory of a large image
        page[around.title_px : around.title_px + height, around.side_px : around.side_px + width] = image
    return page


def _draw_outlined(axes: Axes, image: Pixels, outline: Mask) -> None:
    axes.imshow(image, interpolation="nearest", aspect="auto")
    padded = np.pad(outline.astype(float), 1)
    rows, columns = (np.arange(-1, length + 1) for length in outline.shape)
    axes.contour(columns, rows, padded, levels=[0.5], colors=[OUTLINE_COLOR], linewidths=1.4)
    axes.set(xlim=(-0.5, outline.shape[1] - 0.5), ylim=(outline.shape[0] - 0.5, -0.5))
    axes.set_axis_off()


def _write_margins(figure: Figure, around: Margins, *, title: str, bar: ScaleBar) -> None:
    """Write the title above, scale bar and research-only line below; no text is read as math."""
    width, height = figure.get_size_inches() * around.dpi
    scale = around.dpi / DPI
    left = around.side_px / width
    shown = plain_text(title, limit=int(width / (11 * scale)))
    figure.text(left, 1 - 26 * scale / height, shown, fontsize=11, weight="bold", parse_math=False)
    wide = width - 2 * around.side_px
    margin = figure.add_axes((left, 0, wide / width, around.footer_px / height))
    margin.set(xlim=(0, wide), ylim=(0, FOOTER_PX))
    margin.set_axis_off()
    margin.plot([1, 1 + bar.length_px], [34, 34], color="black", linewidth=2.2, solid_capstyle="butt")
    margin.text(bar.length_px + 8 * scale, 34, bar.label, fontsize=9, va="center")
    margin.text(1, 10, RESEARCH_ONLY, fontsize=8, va="center", color="#555555")


def _rasterize(figure: Figure, *, width: int, height: int) -> Page:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba", dpi=figure.dpi, facecolor="white")
    pixels = np.frombuffer(buffer.getbuffer(), dtype=np.uint8).reshape(height, width, 4)
    return np.ascontiguousarray(pixels[:, :, :3])

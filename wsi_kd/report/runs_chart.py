"""The chart of differences between runs."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from wsi_kd.report.figures import COLORS, Estimate
from wsi_kd.report.svg import INK, chart_style, inline_svg
from wsi_kd.report.text import plain_text

NAME_LENGTH = 60
CHARTED = 30
"""Rows of a chart at most: many runs make many pairs, and tables hold them all."""
WIDEST = 0.02
"""Difference that the axis reaches at least on both sides of 0."""


def difference_chart(name: str, differences: Sequence[Estimate], *, metric: str, confidence: float) -> str:
    """Draw every difference with its interval on one axis around 0, in the order given.

    Args:
        name: prefix of the ids in the drawing.
        differences: first minus second of each pair.
        metric: what differs.
        confidence: of the intervals, 0-1.
    """
    ends = [end for row in differences for end in (row.value, row.low, row.high) if end is not None]
    reach = 1.05 * max([WIDEST, *map(abs, ends)])
    with chart_style(name):
        figure = Figure(figsize=(7.4, 0.7 + 0.34 * len(differences)), layout="constrained")
        axes = figure.subplots()
        for row, difference in enumerate(differences):
            if difference.low is not None and difference.high is not None:
                axes.plot([difference.low, difference.high], [row, row], color=COLORS[0], linewidth=2.2)
            axes.plot(difference.value, row, "o", color=COLORS[0], markersize=6)
        axes.axvline(0.0, color=INK, linewidth=0.8, linestyle="dashed")
        shown = f"difference in {metric}"
        axes.set(xlim=(-reach, reach), ylim=(len(differences) - 0.5, -0.5), xlabel=shown)
        names = [plain_text(difference.name, limit=NAME_LENGTH) for difference in differences]
        axes.set_yticks(range(len(differences)), names)
        axes.grid(visible=False, axis="y")
        description = (
            f"{shown} of each pair with its {confidence:.0%} interval; the dashed line is no difference."
        )
        return inline_svg(figure, name=name, title=f"{shown}, all pairs", description=description)

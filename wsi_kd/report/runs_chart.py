"""The chart of differences between runs."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from wsi_kd.report.figures import Estimate, draw_intervals
from wsi_kd.report.svg import chart_style, inline_svg

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
        draw_intervals(axes, differences, line_at=0.0, name_length=NAME_LENGTH)
        shown = f"difference in {metric}"
        axes.set(xlim=(-reach, reach), xlabel=shown)
        description = (
            f"{shown} of each pair with its {confidence:.0%} interval; the dashed line is no difference."
        )
        return inline_svg(figure, name=name, title=f"{shown}, all pairs", description=description)

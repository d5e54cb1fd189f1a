"""The report's charts, as SVG for inside the page. Every function draws plain numbers and opens no file."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from wsi_kd.claims.claim import Series
from wsi_kd.report.svg import INK, chart_style, inline_svg
from wsi_kd.report.text import plain_text

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito, Color Universal Design (2008): apart for every common color vision."""
LINES = ("solid", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
"""Dashes tell curves apart in gray print."""
NAME_LENGTH = 28
LOGARITHMIC_FROM = 30
"""Abscissas that span this factor or more are drawn on a logarithmic axis."""
MARKED = 16
"""Lines of this many points or fewer show each of them."""


class Estimate(NamedTuple):
    """One row of the overview of intervals."""

    name: str
    value: float
    low: float | None
    high: float | None


class TrainingRun(NamedTuple):
    """One model's history: a value an epoch and column; NaN where an epoch has none."""

    fold: int
    columns: Mapping[str, Float64[np.ndarray, "epochs"]]
    selected_epoch: int


class ScoreGroup(NamedTuple):
    """Scores of the slides of one class."""

    label: str
    scores: Float64[np.ndarray, "slides"]


def interval_chart(name: str, estimates: Sequence[Estimate], *, metric: str, confidence: float) -> str:
    """Draw every model's estimate and interval on one axis, chance (0.5) marked."""
    with chart_style(name):
        figure = Figure(figsize=(6.6, 0.7 + 0.34 * len(estimates)), layout="constrained")
        axes = figure.subplots()
        draw_intervals(axes, estimates, line_at=0.5, name_length=NAME_LENGTH)
        lows = [0.5 if row.low is None else row.low for row in estimates]
        axes.set(xlim=(min(0.45, *lows) - 0.02, 1.01), xlabel=metric)
        description = f"{metric} of each model with its {confidence:.0%} interval; the dashed line is chance."
        return inline_svg(figure, name=name, title=f"{metric}, all models", description=description)


def draw_intervals(axes: Axes, estimates: Sequence[Estimate], *, line_at: float, name_length: int) -> None:
    """Draw a dot and its interval a row, from the top, and a dashed line across all rows."""
    for row, estimate in enumerate(estimates):
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [row, row], color=COLORS[0], linewidth=2.2)
        axes.plot(estimate.value, row, "o", color=COLORS[0], markersize=6)
    axes.axvline(line_at, color=INK, linewidth=0.8, linestyle="dashed")
    axes.set_ylim(len(estimates) - 0.5, -0.5)
    names = [plain_text(estimate.name, limit=name_length) for estimate in estimates]
    axes.set_yticks(range(len(estimates)), names)
    axes.grid(visible=False, axis="y")


def training_chart(name: str, runs: Sequence[TrainingRun], *, panels: Mapping[str, str]) -> str:
    """Draw the history of one recipe and seed: a panel a column (key: heading), a line a fold.

    A dot marks the epoch whose weights were kept.
    """
    with chart_style(name):
        figure = Figure(figsize=(2.7 * len(panels) + 0.9, 2.4), layout="constrained")
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (column, heading) in zip(grid, panels.items(), strict=True):
            for index, run in enumerate(runs):
                _training_line(axes, run, column=column, index=index)
            axes.set_title(heading)
            axes.set_xlabel("epoch")
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper")
        description = f"{', '.join(panels.values())} by epoch, a line a fold; dots mark the epoch kept."
        return inline_svg(figure, name=name, title="Training curves", description=description)


def histogram_chart(
    name: str, groups: Sequence[ScoreGroup], *, score: str, thresholds: Sequence[float]
) -> str:
    """Draw the scores of each class in twenty bins of width 0.05; dashed lines mark the thresholds."""
    with chart_style(name):
        figure = Figure(figsize=(5.0, 2.6), layout="constrained")
        axes = figure.subplots()
        bins = np.linspace(0.0, 1.0, 21).tolist()
        for index, group in enumerate(groups):
            label = f"{plain_text(group.label, limit=NAME_LENGTH)} ({len(group.scores)})"
            color = COLORS[index % len(COLORS)]
            axes.hist(group.scores, bins=bins, color=color, alpha=0.3)
            axes.hist(group.scores, bins=bins, color=color, histtype="step", linewidth=1.4, label=label)
        for threshold in sorted(set(thresholds)):
            axes.axvline(threshold, color=INK, linewidth=0.9, linestyle="dashed")
        axes.set(xlim=(0, 1), xlabel=score, ylabel="slides")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=max(1, min(3, len(groups))))
        description = f"Test slides by {score} and true label; dashed lines: thresholds chosen on validation."
        return inline_svg(figure, name=name, title=f"Scores: {score}", description=description)


def series_chart(name: str, series: Sequence[Series], *, x_label: str, y_label: str) -> str:
    """Draw lines; what is not finite is left out, and a wide range of positive abscissas is logarithmic."""
    with chart_style(name):
        figure = Figure(figsize=(6.2, 3.2), layout="constrained")
        axes = figure.subplots()
        for index, line in enumerate(series):
            axes.plot(
                _finite(line.x),
                _finite(line.y),
                color=COLORS[index % len(COLORS)],
                linestyle=LINES[index % len(LINES)],
                marker="o" if len(line.x) <= MARKED else "",
                markersize=4,
                label=plain_text(line.name, limit=NAME_LENGTH),
            )
        _spread_abscissas(axes, np.concatenate([_finite(line.x) for line in series]))
        shown_x, shown_y = (plain_text(label, limit=2 * NAME_LENGTH) for label in (x_label, y_label))
        axes.set(xlabel=shown_x, ylabel=shown_y)
        figure.legend(loc="outside right upper")
        lines = ", ".join(plain_text(line.name, limit=NAME_LENGTH) for line in series)
        description = f"{shown_y} by {shown_x}, a line each of: {lines}."
        return inline_svg(figure, name=name, title=f"{shown_y} by {shown_x}", description=description)


def _finite(values: Sequence[float]) -> Float64[np.ndarray, "points"]:
    numbers = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _spread_abscissas(axes: Axes, abscissas: Float64[np.ndarray, "points"]) -> None:
    known = abscissas[np.isfinite(abscissas)]
    if known.size and known.min() > 0 and known.max() >= LOGARITHMIC_FROM * known.min():
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _training_line(axes: Axes, run: TrainingRun, *, column: str, index: int) -> None:
    values = run.columns.get(column)
    if values is None or not np.isfinite(values).any():
        return
    color, line = COLORS[index % len(COLORS)], LINES[index // len(COLORS) % len(LINES)]
    axes.plot(values, color=color, linestyle=line, linewidth=1.2, label=f"fold {run.fold}")
    if 0 <= run.selected_epoch < len(values) and np.isfinite(values[run.selected_epoch]):
        axes.plot(run.selected_epoch, values[run.selected_epoch], "o", color=color, markersize=4)

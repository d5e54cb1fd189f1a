"""Charts of measures: ROC, precision-recall, reliability, decision curve, FROC; a band where there is one."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from wsi_kd.report.figures import COLORS, LINES, NAME_LENGTH
from wsi_kd.report.svg import INK, chart_style, inline_svg
from wsi_kd.report.text import plain_text

FROC_RATES = (0.125, 16.0)
"""Ends of the FROC's axis: one doubling more on each side than the rates of the score."""

Values = Sequence[float]


class Curve(NamedTuple):
    """A line, its name and its band (None: the patients are too few to resample)."""

    name: str
    x: Values
    y: Values
    low: Values | None = None
    high: Values | None = None


class ReliabilityPoint(NamedTuple):
    """Slides of neighboring probability."""

    probability: float
    """Their mean."""
    observed: float
    """Share of positives, and its interval."""
    low: float
    high: float
    slides: int


class Reliability(NamedTuple):
    """One version of a score's probabilities."""

    name: str
    points: tuple[ReliabilityPoint, ...]


class Benefit(NamedTuple):
    """Net benefit of a score and of the two rules that need none."""

    model: Curve
    scaled: Curve | None
    treat_all: Curve


def roc_chart(name: str, curves: Sequence[Curve], *, confidence: float) -> str:
    """Draw ROC curves, the band of each in its color; the diagonal is chance."""
    with chart_style(name):
        figure = Figure(figsize=(5.0, 4.6), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="dashed")
        for index, curve in enumerate(curves):
            _draw(axes, curve._replace(x=[0.0, *curve.x], y=[0.0, *curve.y]), index, skip=1)
        _unit_square(axes, x_label="1 - specificity", y_label="sensitivity")
        axes.legend(loc="lower right")
        description = f"Sensitivity against 1 - specificity on test slides, with {confidence:.0%} bands."
        return inline_svg(figure, name=name, title="ROC curves", description=description)


def pr_chart(name: str, curves: Sequence[Curve], *, chance: float | None, confidence: float) -> str:
    """Draw precision-recall curves; the dashed line is the share of positives: a score that knows nothing."""
    with chart_style(name):
        figure = Figure(figsize=(5.0, 4.6), layout="constrained")
        axes = figure.subplots()
        if chance is not None:
            axes.axhline(chance, color=INK, linewidth=0.8, linestyle="dashed")
        for index, curve in enumerate(curves):
            _draw(axes, curve, index)
        _unit_square(axes, x_label="recall (sensitivity)", y_label="precision")
        axes.legend(loc="lower left")
        description = f"Precision against recall on test slides, with {confidence:.0%} bands."
        return inline_svg(figure, name=name, title="Precision-recall curves", description=description)


def reliability_chart(name: str, versions: Sequence[Reliability], *, score: str) -> str:
    """Draw the share of positives by mean probability, with intervals, and the slides behind each point."""
    with chart_style(name):
        figure = Figure(figsize=(4.2, 4.6), layout="constrained")
        axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="dashed")
        for index, version in enumerate(versions):
            _reliability_points(axes, counts, version, index=index)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="share of positive slides")
        axes.legend(loc="upper left")
        counts.set(
            xlabel=plain_text(f"predicted {score} probability", limit=2 * NAME_LENGTH), ylabel="slides"
        )
        counts.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        description = (
            f"Share of positive test slides by predicted {score} probability, with intervals; on the dashed "
            "diagonal they agree. Below: slides behind each point."
        )
        return inline_svg(figure, name=name, title=f"Calibration: {score}", description=description)


def decision_chart(name: str, benefit: Benefit, *, confidence: float) -> str:
    """Draw net benefit by threshold probability; below both dashed lines a score does harm.

    What lies far below zero is cut off.
    """
    with chart_style(name):
        figure = Figure(figsize=(5.0, 3.8), layout="constrained")
        axes = figure.subplots()
        shown = [benefit.model] if benefit.scaled is None else [benefit.model, benefit.scaled]
        for index, curve in enumerate(shown):
            _draw(axes, curve, index)
        everyone = benefit.treat_all
        axes.plot(
            everyone.x, everyone.y, color=INK, linewidth=0.9, linestyle=(0, (1, 1.2)), label=everyone.name
        )
        axes.axhline(0.0, color=INK, linewidth=0.9, linestyle="dashed", label="call none positive")
        top = max(max(values) for curve in (*shown, everyone) for values in (curve.y, curve.high or [0.0]))
        axes.set(
            xlim=(0, max(everyone.x)),
            ylim=(-0.15 * max(top, 0.1), 1.12 * max(top, 0.1)),
            xlabel="threshold probability",
            ylabel="net benefit",
        )
        figure.legend(loc="outside lower center", ncols=2)
        description = f"Net benefit by threshold probability, with the {confidence:.0%} band."
        return inline_svg(figure, name=name, title="Decision curve", description=description)


def froc_chart(name: str, curves: Sequence[Curve], points: Sequence[Values], *, rates: Values) -> str:
    """Draw the share of lesions hit by false positives a slide; dots: the rates that the score averages."""
    with chart_style(name):
        figure = Figure(figsize=(5.4, 3.8), layout="constrained")
        axes = figure.subplots()
        for index, (curve, sensitivity) in enumerate(zip(curves, points, strict=True)):
            _draw(axes, curve, index)
            color = COLORS[index % len(COLORS)]
            axes.plot(rates, sensitivity, "o", color=color, markersize=4.5)
        axes.set_xscale("log", base=2)
        axes.set(xlim=FROC_RATES, ylim=(-0.02, 1.02))
        axes.set(xlabel="false positives per slide", ylabel="share of lesions hit")
        axes.xaxis.set_major_locator(FixedLocator([FROC_RATES[0], *rates, FROC_RATES[1]]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        figure.legend(loc="outside lower center", ncols=2)
        description = "Share of lesions hit against false positives per slide, on a logarithmic axis."
        return inline_svg(figure, name=name, title="FROC curves", description=description)


def _draw(axes: Axes, curve: Curve, index: int, *, skip: int = 0) -> None:
    """Draw a curve; its band, without the first `skip` points, behind it."""
    color, x = COLORS[index % len(COLORS)], _numbers(curve.x)
    if curve.low is not None and curve.high is not None:
        low, high = _numbers(curve.low), _numbers(curve.high)
        axes.fill_between(x[skip:], low, high, color=color, alpha=0.14, linewidth=0)
    axes.plot(
        x,
        _numbers(curve.y),
        color=color,
        linestyle=LINES[index % len(LINES)],
        label=plain_text(curve.name, limit=NAME_LENGTH),
    )


def _reliability_points(axes: Axes, counts: Axes, version: Reliability, *, index: int) -> None:
    color = COLORS[index % len(COLORS)]
    x, y, low, high, count = np.array(version.points, dtype=np.float64).T
    errors = np.clip([y - low, high - y], 0.0, None)
    axes.errorbar(
        x,
        y,
        yerr=errors,
        color=color,
        marker="os"[index % 2],
        markersize=4.5,
        linestyle=LINES[index % len(LINES)],
        linewidth=1.2,
        elinewidth=0.8,
        label=plain_text(version.name, limit=NAME_LENGTH),
    )
    counts.bar(x, count, width=0.018, color=color, alpha=0.45, linewidth=0)


def _unit_square(axes: Axes, *, x_label: str, y_label: str) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), xlabel=x_label, ylabel=y_label, aspect="equal")


def _numbers(values: Values) -> Float64[np.ndarray, "points"]:
    return np.asarray(values, dtype=np.float64)

"""The chart of a suggested soft ratio: held-out error of kernel students at each ratio and temperature."""

from wsi_kd.claims.claim import Series
from wsi_kd.kd.soft_ratio import Suggestion
from wsi_kd.report.figures import series_chart
from wsi_kd.report.svg import standalone_svg

X_LABEL = "soft ratio"
Y_LABEL = "held-out error"


def soft_ratio_svg(suggestion: Suggestion, *, name: str = "soft-ratio") -> str:
    """Return the text of an SVG file: a line a temperature, the teacher's own error, and what is suggested.

    Soft ratio 1 is the same at every temperature, and belongs to every line.

    Args:
        suggestion: what `suggest_soft_ratio` gave.
        name: prefix of the chart's ids, where several stand on one page.
    """
    temperatures = sorted({one.temperature for one in suggestion.tried})
    lines = []
    for temperature in temperatures:
        own = [one for one in suggestion.tried if one.temperature == temperature or one.soft_ratio == 1.0]
        x, y = zip(*sorted((one.soft_ratio, one.error) for one in own), strict=True)
        lines.append(Series(f"temperature {temperature:g}", x, y))
    ends = (min(lines[0].x), max(lines[0].x))
    best = suggestion.best
    lines += [
        Series("the teacher itself", ends, (suggestion.teacher_error,) * 2),
        Series(f"suggested: {best.soft_ratio:g}", (best.soft_ratio,), (best.error,)),
    ]
    return standalone_svg(series_chart(name, lines, x_label=X_LABEL, y_label=Y_LABEL))

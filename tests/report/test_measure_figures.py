"""Charts of measures: what is drawn is what was given, in the units of the axes."""

from xml.etree import ElementTree

import numpy as np
import pytest

from wsi_kd.report.measure_figures import (
    Benefit,
    Curve,
    Reliability,
    ReliabilityPoint,
    decision_chart,
    froc_chart,
    pr_chart,
    reliability_chart,
    roc_chart,
)

BLUE, ORANGE, INK = "#0072b2", "#d55e00", "currentColor"


def texts(svg):
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter("text")]


def points(path):
    return np.array(
        [float(word) for word in path.get("d").replace("M", "").replace("L", "").split()]
    ).reshape(-1, 2)


def lines(svg, color):
    """Points of every drawn path of a color, in SVG units; the first ones are the axes' own."""
    root = ElementTree.fromstring(svg)
    return [
        points(path)
        for path in root.iter("path")
        if path.get("stroke") == color and path.get("fill") == "none"
    ]


def band(svg, color):
    """Points of the filled path of a color."""
    root = ElementTree.fromstring(svg)
    use = next(element for element in root.iter("use") if element.get("fill") == color)
    shape = next(path for path in root.iter("path") if f"#{path.get('id')}" == use.get("href"))
    return np.array(
        [float(word) for word in shape.get("d").translate(str.maketrans("MLz", "   ")).split()]
    ).reshape(-1, 2)


def test_the_roc_line_starts_at_the_origin_and_passes_through_its_points():
    curve = Curve("ABMIL teacher", [0.0, 0.25, 0.5, 0.75, 1.0], [0.0, 0.5, 0.75, 1.0, 1.0])
    svg = roc_chart("roc", [curve], confidence=0.95)
    drawn = lines(svg, BLUE)[0]
    width, height = drawn[-1, 0] - drawn[0, 0], drawn[0, 1] - drawn[-1, 1]
    half = drawn[np.argmin(np.abs(drawn[:, 0] - drawn[0, 0] - width / 2))]
    assert (drawn[0, 1] - half[1]) / height == pytest.approx(0.75, abs=0.01)
    assert width == pytest.approx(height, rel=1e-3)
    assert {"ABMIL teacher", "1 - specificity", "sensitivity"} <= set(texts(svg))


def test_a_band_lies_where_its_ends_are():
    flat = Curve("a", [0.0, 1.0], [0.5, 0.5], [0.25, 0.25], [0.75, 0.75])
    svg = pr_chart("pr", [flat], chance=0.25, confidence=0.9)
    area, line = band(svg, BLUE), lines(svg, BLUE)[0]
    bottom, top = area[:, 1].max(), area[:, 1].min()
    assert bottom - top == pytest.approx((line[-1, 0] - line[0, 0]) * 0.5, rel=0.02)
    assert np.ptp(line[:, 1]) == 0
    dashed = [
        path
        for path in ElementTree.fromstring(svg).iter("path")
        if path.get("stroke-dasharray") and path.get("stroke") == INK
    ]
    chance = points(dashed[0])
    assert (chance[0, 1] - line[0, 1]) == pytest.approx(0.25 * (line[-1, 0] - line[0, 0]), rel=0.02)
    assert "with 90% bands" in svg


def test_without_a_chance_level_none_is_drawn():
    curve = Curve("a", [0.0, 1.0], [0.5, 0.5])
    drawn = ElementTree.fromstring(pr_chart("pr", [curve], chance=None, confidence=0.95))
    assert [path for path in drawn.iter("path") if path.get("stroke-dasharray")] == []


def test_reliability_draws_both_versions_with_counts_to_scale():
    before = Reliability(
        "as scored", (ReliabilityPoint(0.2, 0.1, 0.0, 0.3, 10), ReliabilityPoint(0.8, 0.9, 0.7, 1.0, 20))
    )
    after = Reliability("scaled", (ReliabilityPoint(0.1, 0.1, 0.0, 0.3, 10),))
    svg = reliability_chart("rel", [before, after], score="WENO student")
    assert {"as scored", "scaled", "predicted WENO student probability", "slides"} <= set(texts(svg))
    root = ElementTree.fromstring(svg)
    bars = [path for path in root.iter("path") if path.get("fill") == BLUE and path.get("opacity") == "0.45"]
    heights = [np.ptp(points_of_bar(bar)) for bar in bars]
    assert heights[1] / heights[0] == pytest.approx(2.0, rel=1e-3)
    line = max(lines(svg, BLUE), key=lambda drawn: np.ptp(drawn[:, 0]))
    rise, run = line[0, 1] - line[-1, 1], line[-1, 0] - line[0, 0]
    assert run > 0
    assert rise > 0


def points_of_bar(path):
    words = path.get("d").translate(str.maketrans("MLz", "   ")).split()
    return np.array([float(word) for word in words]).reshape(-1, 2)[:, 1]


def test_an_interval_beyond_its_estimate_by_rounding_draws_no_error():
    odd = Reliability("as scored", (ReliabilityPoint(0.5, 0.3, 0.3000001, 0.2999999, 4),))
    assert "as scored" in texts(reliability_chart("rel", [odd], score="s"))


def test_the_decision_curve_names_the_rules_that_need_no_score():
    x = [0.1, 0.2, 0.4]
    benefit = Benefit(
        Curve("WENO student", x, [0.4, 0.35, 0.3], [0.3, 0.2, 0.1], [0.45, 0.4, 0.35]),
        Curve("scaled by temperature", x, [0.41, 0.36, 0.31]),
        Curve("call all positive", x, [0.44, 0.375, 1 / 6]),
    )
    svg = decision_chart("d", benefit, confidence=0.95)
    names = {"WENO student", "scaled by temperature", "call all positive", "call none positive"}
    assert names <= set(texts(svg))
    model, scaled = lines(svg, BLUE)[0], lines(svg, ORANGE)[0]
    per_unit = (model[-1, 1] - model[0, 1]) / 0.1
    assert model[0, 1] - scaled[0, 1] == pytest.approx(0.01 * per_unit, rel=1e-2)
    alone = decision_chart("d", benefit._replace(scaled=None), confidence=0.95)
    assert "scaled by temperature" not in texts(alone)


def test_a_score_without_any_benefit_is_still_drawn():
    x = [0.5, 0.9]
    benefit = Benefit(Curve("a", x, [0.0, 0.0]), None, Curve("all", x, [-0.8, -8.0]))
    assert "a" in texts(decision_chart("d", benefit, confidence=0.95))


def test_froc_marks_the_six_rates_on_a_doubling_axis():
    rates = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0]
    curve = Curve("WENO student", [0.125, *rates, 16.0], [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.6])
    svg = froc_chart("f", [curve], [[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]], rates=rates)
    dots = [use for use in ElementTree.fromstring(svg).iter("use") if use.get("fill") == BLUE]
    x = np.array([float(dot.get("x")) for dot in dots])
    y = np.array([float(dot.get("y")) for dot in dots])
    assert len(dots) == 6
    np.testing.assert_allclose(np.diff(x), np.diff(x)[0], rtol=1e-3)
    np.testing.assert_allclose(np.diff(y), np.diff(y)[0], rtol=1e-3)
    assert {"0.125", "0.25", "8", "16", "share of lesions hit"} <= set(texts(svg))

"""Charts: what is drawn is what was given; the markup is clean, accessible and reproducible."""

from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from wsi_kd.report.figures import (
    Estimate,
    ScoreGroup,
    TrainingRun,
    histogram_chart,
    interval_chart,
    training_chart,
)
from wsi_kd.report.svg import chart_style, inline_svg
from wsi_kd.report.text import plain_text


def chart(draw, name="one"):
    with chart_style(name):
        figure = Figure(figsize=(3, 2))
        draw(figure.subplots())
        return inline_svg(figure, name=name, title="A title", description="What <it> shows")


def texts(svg):
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter("text")]


def path_of_line(svg, color):
    """Points of the first drawn path of a color, in SVG units."""
    for path in ElementTree.fromstring(svg).iter("path"):
        if path.get("stroke") == color:
            numbers = [float(word) for word in path.get("d").replace("M", "").replace("L", "").split()]
            return np.array(numbers).reshape(-1, 2)
    raise AssertionError(color)


def test_markup_is_clean_named_and_in_the_page_s_ink():
    svg = chart(lambda axes: axes.plot([0, 1], [0, 1], label="a"))
    root = ElementTree.fromstring(svg)
    assert root.tag == "svg"
    assert root.find("title").text == "A title"
    assert root.find("desc").text == "What <it> shows"
    assert root.get("aria-labelledby") == "one-title one-description"
    for element in root.iter():
        assert "style" not in element.attrib
        assert element.tag not in {"style", "metadata", "script"}
    assert 'fill="currentColor"' in svg
    assert "#102030" not in svg
    assert "Date" not in svg


def test_ids_of_two_charts_do_not_meet_and_equal_charts_are_equal():
    first, second = (chart(lambda axes: axes.plot([0, 1], [0, 1], "o"), name) for name in ("one", "two"))
    ids = [
        {element.get("id") for element in ElementTree.fromstring(svg).iter()} - {None}
        for svg in (first, second)
    ]
    assert not ids[0] & ids[1]
    assert chart(lambda axes: axes.plot([0, 1], [0, 1], "o")) == first


def test_text_is_never_read_as_math_or_markup():
    svg = chart(lambda axes: axes.set_title("$\\frac{ <b> & $"))
    assert "$\\frac{ <b> & $" in texts(svg)


def test_intervals_are_drawn_to_scale_and_may_be_absent():
    rows = [Estimate("a", 0.7, 0.6, 0.8), Estimate("b", 0.9, None, None)]
    svg = interval_chart("i", rows, metric="bag AUC", confidence=0.95)
    points = path_of_line(svg, "#0072b2")
    ticks = {text: position for text, position in zip(texts(svg), x_positions(svg), strict=True)}
    per_unit = (ticks["0.9"] - ticks["0.6"]) / 0.3
    assert points[1, 0] - points[0, 0] == pytest.approx(0.2 * per_unit, rel=1e-3)
    assert {"a", "b", "bag AUC"} <= set(texts(svg))


def x_positions(svg):
    return [float(element.get("x", "nan")) for element in ElementTree.fromstring(svg).iter("text")]


def test_training_curves_skip_what_is_absent_and_mark_the_epoch_kept():
    history = {"loss": np.array([1.0, 0.5, np.nan]), "auc": np.full(3, np.nan)}
    svg = training_chart(
        "t", [TrainingRun(2, history, 1)], panels={"loss": "Loss", "auc": "AUC", "none": "None"}
    )
    assert {"Loss", "AUC", "None", "fold 2"} <= set(texts(svg))
    lines = [path for path in ElementTree.fromstring(svg).iter("path") if path.get("stroke") == "#0072b2"]
    drawn = [path for path in lines if path.get("fill") == "none"]
    assert len(drawn) == 2  # one panel's line, and its sample in the legend
    assert len(ElementTree.fromstring(svg).findall(".//use[@fill='#0072b2']")) == 1


def test_histograms_count_each_label_and_draw_each_threshold_once():
    groups = [ScoreGroup("normal", np.array([0.1, 0.1, 0.2])), ScoreGroup("<b>", np.array([0.9]))]
    svg = histogram_chart("h", groups, score="teacher probability", thresholds=[0.5, 0.5, 0.4])
    assert {"normal (3)", "<b> (1)", "teacher probability"} <= set(texts(svg))
    dashed = [path for path in ElementTree.fromstring(svg).iter("path") if path.get("stroke-dasharray")]
    assert len(dashed) == 2


def test_an_empty_group_draws_no_warning():
    svg = histogram_chart("h", [ScoreGroup("tumor", np.empty(0))], score="s", thresholds=[])
    assert "tumor (0)" in texts(svg)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("slide_1", "slide_1"),
        ("a\nb\tc", "a b c"),
        ("\u202eabc\u200b\ud800", "abc"),
        ("x" * 300 + "end", "xxxxx…xend"),
        ("\U0001f52c", "\ufffd"),
        ("", ""),
    ],
)
def test_text_for_drawings_is_one_bounded_line(text, shown):
    assert plain_text(text, limit=10) == shown

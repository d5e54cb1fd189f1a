"""The comparison page of many runs: charts stay small, tables hold all."""

import re

import pytest

from wsi_kd.core.provenance import RESEARCH_ONLY, stamp
from wsi_kd.report.figures import Estimate
from wsi_kd.report.runs_chart import CHARTED, difference_chart
from wsi_kd.report.runs_page import runs_page

METRICS = ("roc_auc", "average_precision", "balanced_accuracy", "sensitivity", "specificity", "f1")


def pooled(value):
    told = {"estimate": value, "low": value - 0.1, "high": value + 0.1, "confidence": 0.95}
    return {**told, "resamples": 100, "redrawn": 0, "reason": ""}


def difference(p_value):
    told = {
        "estimate": 0.1,
        "low": -0.1,
        "high": 0.3,
        "confidence": 0.95,
        "p_value": p_value,
        "test": "DeLong",
    }
    over_seeds = {"mean": 0.1, "sd": None, "count": 1}
    return {**told, "per_seed": [], "over_seeds": over_seeds, "reason": "", "p_holm": min(1.0, 40 * p_value)}


def comparison(runs):
    names = [f"run {number}" for number in range(runs)]
    rows = [
        {
            "rank": rank,
            "run": name,
            "recipe": "weno",
            "score": "teacher",
            "seeds": 1,
            "validation_slides": 20,
            "validation": pooled(0.9 - rank / 100),
            "test_slides": 20,
            "test_cases": 10,
            "test": {metric: pooled(0.5) for metric in METRICS},
            "shared": {},
        }
        for rank, name in enumerate(names, start=1)
    ]
    tests = [
        {
            **{"run": names[0], "recipe": "weno", "score": "teacher"},
            **{"against_run": name, "against_recipe": "weno", "against_score": "teacher"},
            **{"why": "same recipe and score", "slides": 20, "cases": 10},
            "metrics": {metric: difference(0.004) for metric in METRICS[:3]},
        }
        for name in names[1:]
    ]
    facts = [
        {
            **{
                "run": name,
                "recipes": ["weno"],
                "seeds": [0],
                "folds": 1,
                "test_slides": 20,
                "test_cases": 10,
            },
            **{"unlabeled": 0, "split_group": 1, "version": "1"},
        }
        for name in names
    ]
    return {
        **stamp("run_comparison", {}),
        **{"classes": ["normal", "tumor"], "confidence": 0.95, "bootstrap_samples": 100, "seed": 0},
        **{"runs": facts, "shared_slides": [], "shared_by_all": 20, "leaderboard": rows, "tests": tests},
        "family": {"method": "Holm", "tests": 3 * len(tests)},
        "notes": ["something odd"],
        "differing_settings": {"tile.tile_px": {name: 224 for name in names[1:]}},
        "research_only": RESEARCH_ONLY,
    }


def blocks_of(page, anchor):
    return next(section for section in page.sections if section.anchor == anchor).blocks


def test_every_row_stands_in_a_table_and_charts_are_cut():
    page = runs_page(comparison(45))
    _, caution, table, chart = blocks_of(page, "leaderboard")
    assert caution.caution
    assert caution.text == "something odd"
    assert [row[0].text for row in table.rows] == [str(rank) for rank in range(1, 46)]
    assert "the first 30 of 45" in chart.caption
    assert chart.svg.count("run 4") == 1  # "4. run 3" to "30. run 29": of "run 4..." only "5. run 4"
    tests = blocks_of(page, "tests")
    assert [len(block.rows) for block in tests if block.kind == "table"] == [44] * 3
    assert next(block.caption for block in tests if block.kind == "chart").endswith(
        "the first 30 of 44 pairs."
    )


def test_p_values_stand_beside_their_corrected_ones():
    table = next(block for block in blocks_of(runs_page(comparison(2)), "tests") if block.kind == "table")
    shown = dict(zip((column.heading for column in table.columns), table.rows[0], strict=True))
    assert (shown["p"].text, shown["p (Holm)"].text) == ("0.004", "0.160")
    assert shown["Difference in AUC"].text == "+0.100"
    assert shown["Slides"].note == "10 cases"


def test_settings_show_each_runs_value():
    (_, table) = blocks_of(runs_page(comparison(3)), "settings")
    assert [cell.text for cell in table.rows[0]] == ["tile.tile_px", "n/a", "224", "224"]


@pytest.mark.parametrize(("low", "high", "reach"), [(-0.3, 0.5, 0.5), (None, None, 0.1)])
def test_the_axis_of_differences_is_even_around_zero(low, high, reach):
    svg = difference_chart("d", [Estimate("a - b", 0.1, low, high)], metric="AUC", confidence=0.95)
    ticks = [
        float(text.replace("\N{MINUS SIGN}", "-")) for text in re.findall(r">([\N{MINUS SIGN}\d.]+)<", svg)
    ]
    assert max(ticks) == pytest.approx(-min(ticks))
    assert 0.0 in ticks
    assert max(ticks) <= 1.05 * reach
    assert CHARTED == 30

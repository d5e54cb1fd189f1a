"""Groups of slides measured by themselves."""

import numpy as np
import pytest

from wsi_kd.evaluation.slide_metrics import SlidePlan, SlideScores, measure_slides


def parts(labels, scores, *, seeds=(0,), folds=2):
    found = []
    for seed in seeds:
        for fold in range(folds):
            rows = [index for index in range(len(labels)) if index % folds == fold]
            chosen = np.array(scores, dtype=np.float64)[rows]
            names = tuple(f"s{index}" for index in rows)
            cases = tuple(f"c{index // 2}" for index in rows)
            truth = np.array(labels, dtype=np.int64)[rows]
            found.append(SlideScores(seed, fold, names, cases, truth, chosen, chosen >= 0.5, None, 0.5))
    return found


def measured(test, columns):
    plan = SlidePlan(columns=columns)
    return measure_slides(test, samples=100, confidence=0.95, seed=0, plan=plan).metrics["subgroups"]


def test_each_value_is_measured_on_its_own_slides():
    labels = [0, 0, 1, 1, 0, 0, 1, 1]
    scores = [0.1, 0.2, 0.8, 0.9, 0.6, 0.1, 0.3, 0.9]
    site = {f"s{index}": "north" if index < 4 else "south" for index in range(8)}
    north, south = measured(parts(labels, scores, seeds=(0, 1)), {"site": site})
    assert (north["column"], north["value"], north["slides"], north["cases"]) == ("site", "north", 4, 2)
    assert (north["positives"], north["small"], north["reason"]) == (2, True, "")
    assert (north["roc_auc"]["estimate"], south["roc_auc"]["estimate"]) == (1.0, 0.75)
    assert (south["sensitivity"]["estimate"], south["specificity"]["estimate"]) == (0.5, 0.5)
    assert south["roc_auc"]["resamples"] == 100
    assert (south["roc_auc"]["low"], south["roc_auc"]["high"]) == (
        0.75,
        0.75,
    )  # a case of each class: no choice


def test_slides_without_a_value_are_a_group_and_twenty_cases_are_enough():
    count = 44
    labels = [index // 2 % 2 for index in range(count)]
    rng = np.random.default_rng(0)
    scores = rng.random(count)
    scanner = {f"s{index}": "A" for index in range(40)}
    _, fewer = measured(parts(labels, scores), {"scanner": dict(list(scanner.items())[:38])})
    assert (fewer["slides"], fewer["cases"], fewer["small"]) == (38, 19, True)
    missing, known = measured(parts(labels, scores), {"scanner": scanner})
    assert (missing["value"], missing["cases"], missing["small"]) == ("", 2, True)
    assert (known["value"], known["cases"], known["small"]) == ("A", 20, False)
    assert missing["slides"] + known["slides"] == count


def test_the_group_of_all_slides_is_the_whole():
    rng = np.random.default_rng(2)
    labels = np.arange(30) // 2 % 2
    test = parts(labels, rng.random(30))
    whole = measure_slides(
        test,
        samples=100,
        confidence=0.95,
        seed=0,
        plan=SlidePlan(columns={"site": {f"s{index}": "one" for index in range(30)}}),
    ).metrics
    (group,) = whole["subgroups"]
    for name in ("roc_auc", "sensitivity", "specificity"):
        assert group[name] == pytest.approx(whole["pooled"][name])


def test_a_group_of_one_class_says_why():
    labels, scores = [0, 0, 1, 1], [0.1, 0.7, 0.8, 0.9]
    site = {"s0": "a", "s1": "a", "s2": "b", "s3": "b"}
    negative, positive = measured(parts(labels, scores), {"site": site})
    assert negative["roc_auc"] | {"confidence": 0} == {
        "estimate": None,
        "low": None,
        "high": None,
        "confidence": 0,
        "resamples": 0,
        "redrawn": 0,
        "reason": "no positives among 2",
    }
    assert (negative["specificity"]["estimate"], negative["sensitivity"]["estimate"]) == (0.5, None)
    assert positive["sensitivity"]["estimate"] == 1.0


def test_scores_that_are_no_numbers_touch_their_own_group_alone():
    labels, scores = [0, 1, 0, 1, 0, 1, 0, 1], [0.1, 0.7, 0.2, np.nan, 0.1, 0.7, 0.2, 0.9]
    site = {f"s{index}": "a" if index < 4 else "b" for index in range(8)}
    first, second = measured(parts(labels, scores), {"site": site})
    assert first["reason"] == "1 of 4 scores are not finite (first: slide s3)"
    assert first["roc_auc"]["estimate"] is None
    assert second["roc_auc"]["estimate"] == 1.0


def test_no_columns_no_groups():
    assert measured(parts([0, 1], [0.1, 0.9], folds=1), {}) == []

"""Thresholds chosen on validation and the calls they make on test, by hand."""

import numpy as np
import pytest

from wsi_kd.evaluation.classification import threshold_by
from wsi_kd.evaluation.operating_points import operating_points
from wsi_kd.evaluation.sampled_scores import SlidePlan, sample_scores
from wsi_kd.evaluation.scored_slides import SlideScores
from wsi_kd.evaluation.slide_metrics import measure_slides


def part(labels, scores, *, seed=0, fold=0, threshold=0.5):
    names = tuple(f"f{fold}s{index}" for index in range(len(labels)))
    scores = np.array(scores, dtype=np.float64)
    calls = scores >= (np.inf if threshold is None else threshold)
    return SlideScores(seed, fold, names, names, np.array(labels, np.int64), scores, calls, None, threshold)


def measured(test, validation, *, samples=100, **targets):
    sampled = sample_scores(test, samples=samples, confidence=0.95, seed=0)
    found = operating_points(sampled, SlidePlan(validation=tuple(validation), **targets))
    return {one["rule"]: one for one in found}


LABELS = np.array([0, 0, 0, 1, 0, 1, 1, 1])
SCORES = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])


@pytest.mark.parametrize(
    ("rule", "target", "threshold"),
    [
        ("youden", None, 0.55),  # sensitivity 3/4, specificity 1; 0.35 gives 1 and 3/4: the higher wins
        ("sensitivity", 0.95, 0.35),
        ("sensitivity", 0.75, 0.55),
        ("specificity", 0.95, 0.55),
        ("specificity", 0.75, 0.35),
    ],
)
def test_thresholds_by_hand(rule, target, threshold):
    assert threshold_by(LABELS, SCORES, rule=rule, target=target).value == pytest.approx(threshold)


@pytest.mark.parametrize(
    ("labels", "scores", "told"),
    [
        ([], [], "no validation slides with a label"),
        ([1, 1], [0.1, 0.2], "no negatives among 2 validation slides"),
        ([0], [0.1], "no positives among 1 validation slides"),
        ([0, 1], [0.1, np.nan], "1 of 2 validation scores are not finite"),
    ],
)
def test_no_threshold_has_a_reason(labels, scores, told):
    found = threshold_by(np.array(labels, np.int64), np.array(scores, np.float64), rule="youden", target=None)
    assert (found.value, found.reason) == (None, told)


def test_calls_of_two_folds_at_their_own_thresholds_by_hand():
    test = [
        part([0, 0, 1, 1], [0.1, 0.6, 0.5, 0.9], fold=0),
        part([0, 0, 1, 1], [0.01, 0.05, 0.04, 0.2], fold=1, threshold=0.1),
    ]
    validation = [part([0, 1], [0.4, 0.44], fold=0), part([0, 1], [0.02, 0.04], fold=1)]
    found = measured(test, validation)
    youden = found["youden"]
    assert [one["value"] for one in youden["thresholds"]] == pytest.approx([0.42, 0.03])
    assert (youden["target"], youden["chosen_on"], youden["reason"]) == (None, "val", "")
    # fold 0 calls 0.6, 0.5, 0.9; fold 1 calls 0.05, 0.04, 0.2
    assert youden["confusion"] == {
        "true_positive": 4.0,
        "false_positive": 2.0,
        "true_negative": 2.0,
        "false_negative": 0.0,
    }
    values = {name: youden[name]["estimate"] for name in ("sensitivity", "specificity", "ppv", "npv")}
    assert values == {"sensitivity": 1.0, "specificity": 0.5, "ppv": 4 / 6, "npv": 1.0}
    assert youden["ppv"]["low"] < youden["ppv"]["estimate"] < youden["ppv"]["high"]
    checkpoint = found["checkpoint"]
    assert [one["value"] for one in checkpoint["thresholds"]] == [0.5, 0.1]
    assert checkpoint["per_seed"][0]["confusion"]["true_positive"] == 3


def test_targets_are_reached_on_validation_not_on_test():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    validation = [part(labels, rng.normal(labels, 1.0))]
    test = [part(labels, rng.normal(labels, 1.0) - 0.5)]  # test scores lie lower
    found = measured(test, validation, sensitivity=0.9, specificity=0.8)
    assert found["sensitivity"]["target"] == 0.9
    threshold = found["sensitivity"]["thresholds"][0]["value"]
    kept = (validation[0].scores[labels == 1] >= threshold).mean()
    assert 0.9 <= kept < 0.92
    assert found["sensitivity"]["sensitivity"]["estimate"] < 0.9
    assert found["specificity"]["specificity"]["estimate"] > 0.8


def test_seeds_have_their_own_thresholds_and_counts_are_averaged():
    test = [part(LABELS, SCORES), part(LABELS, SCORES, seed=1)]
    validation = [part([0, 1], [0.0, 0.9]), part([0, 1], [0.9, 1.0], seed=1)]
    found = measured(test, validation)["youden"]
    assert [one["value"] for one in found["thresholds"]] == pytest.approx([0.45, 0.95])
    assert [one["confusion"]["true_positive"] for one in found["per_seed"]] == [3, 0]
    assert found["confusion"]["true_positive"] == 1.5
    assert found["sensitivity"]["estimate"] == pytest.approx(0.375)
    # seed 1 calls nothing positive: no predictive value of its calls, and so none of the mean
    assert found["ppv"]["estimate"] is None
    assert found["ppv"]["reason"] == "no slide is called positive"


def test_a_fold_that_cannot_choose_is_named_and_other_rules_stand():
    test = [part([0, 1], [0.2, 0.9], fold=0), part([0, 1], [0.2, 0.9], fold=1)]
    found = measured(test, [part([0, 1], [0.1, 0.8], fold=0), part([0], [0.1], fold=1)])
    assert found["youden"]["reason"] == "seed 0, fold 1: no positives among 1 validation slides"
    assert (found["youden"]["per_seed"], found["youden"]["confusion"]) == ([], None)
    assert found["youden"]["sensitivity"]["estimate"] is None
    assert found["youden"]["thresholds"][0]["value"] == pytest.approx(0.45)
    assert found["checkpoint"]["sensitivity"]["estimate"] == 1.0
    stored = measured([part([0, 1], [0.2, 0.9], threshold=None)], [])
    assert stored["checkpoint"]["reason"] == "seed 0, fold 0: stored without a threshold"
    assert stored["youden"]["reason"] == "seed 0, fold 0: no validation slides"


def test_resamples_without_a_positive_call_are_left_out_of_the_predictive_value():
    labels, scores = [0] * 10 + [1] * 10, [0.1] * 19 + [0.9]
    found = measured([part(labels, scores)], [], samples=1000)["checkpoint"]
    assert found["ppv"]["estimate"] == 1.0
    # one slide in twenty is called: (19 / 20)^20 = 36 % of the resamples hold no call
    assert found["ppv"]["resamples"] == pytest.approx(640, abs=60)
    assert found["sensitivity"]["resamples"] == 1000


@pytest.mark.parametrize("poison", ["labels", "scores"])
def test_nothing_chosen_on_validation_moves_when_the_test_slides_are_poisoned(poison):
    def slides(fold, count):
        labels = generator.integers(0, 2, count)
        return part(labels, np.clip(0.3 * labels + 0.7 * generator.random(count), 0, 1), fold=fold)

    generator = np.random.default_rng(0)
    test, validation = [slides(0, 20), slides(1, 20)], tuple(slides(fold, 15) for fold in (0, 1))
    poisoned = [
        one._replace(labels=1 - one.labels) if poison == "labels" else one._replace(scores=1 - one.scores)
        for one in test
    ]
    found = [
        measure_slides(parts, samples=100, confidence=0.95, seed=0, plan=SlidePlan(validation)).metrics
        for parts in (test, poisoned)
    ]
    chosen = [
        ([one["thresholds"] for one in each["operating_points"]], each["calibration"]["temperatures"])
        for each in found
    ]
    assert chosen[0] == chosen[1]
    assert all(one["value"] for one in chosen[0][1])
    rates = [each["operating_points"][0]["sensitivity"]["estimate"] for each in found]
    assert rates[0] != rates[1]

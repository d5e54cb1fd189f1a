import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_kd.core.errors import BadInput
from wsi_kd.evaluation.classification import (
    Confusion,
    average_precision,
    choose_threshold,
    macro_auc,
    operating_point,
    roc_auc,
)

LABELS = np.array([0, 0, 1, 1])
SCORES = np.array([0.1, 0.4, 0.35, 0.8])


def test_auc_counts_ordered_pairs():
    assert roc_auc(LABELS, SCORES).value == 0.75  # 3 of 4 pairs: 0.35 < 0.4 is the wrong one


def test_auc_counts_ties_half():
    assert roc_auc(np.array([0, 1]), np.array([0.3, 0.3])).value == 0.5


def test_average_precision_by_hand():
    # descending: 0.8 (+) P=1 R=1/2; 0.4 (-); 0.35 (+) P=2/3 R=1
    assert average_precision(LABELS, SCORES).value == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


@pytest.mark.parametrize(
    ("labels", "word"), [([1, 1], "no negatives"), ([0, 0], "no positives"), ([], "no positives")]
)
def test_one_class_gives_a_reason_and_no_number(labels, word):
    labels, scores = np.array(labels, dtype=np.int64), np.linspace(0, 1, len(labels))
    for metric in (roc_auc(labels, scores), average_precision(labels, scores)):
        assert metric.value is None
        assert word in metric.reason


def test_operating_point_by_hand():
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    calls = np.array([True, True, False, True, False, False, False, False])
    point = operating_point(labels, calls)
    assert point.confusion == Confusion(true_positive=2, false_positive=1, true_negative=4, false_negative=1)
    assert point.sensitivity.value == pytest.approx(2 / 3)
    assert point.specificity.value == pytest.approx(4 / 5)
    assert point.balanced_accuracy.value == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert point.f1.value == pytest.approx(4 / 6)


def test_operating_point_without_positives_is_undefined_where_it_must_be():
    point = operating_point(np.array([0, 0]), np.array([False, True]))
    assert point.sensitivity == (None, "no positive slides")
    assert point.balanced_accuracy == (None, "no positive slides")
    assert point.specificity.value == 0.5
    assert point.f1.value == 0.0


def test_macro_auc_is_the_mean_of_one_against_rest():
    labels = np.array([0, 0, 1, 1, 2, 2])
    probabilities = np.eye(3)[labels]
    probabilities[1] = [0.2, 0.7, 0.1]
    areas = [roc_auc(labels == index, probabilities[:, index]).value for index in range(3)]
    assert areas == [1.0, 1.0, 1.0]
    probabilities[2] = [0.5, 0.3, 0.2]  # class 1 against rest: 0.3 < 0.7; class 0: 0.5 > 0.2
    areas = [roc_auc(labels == index, probabilities[:, index]).value for index in range(3)]
    assert areas == [7 / 8, 7 / 8, 1.0]
    assert macro_auc(labels, probabilities).value == pytest.approx(sum(areas) / 3)


def test_macro_auc_names_the_class_that_is_absent():
    metric = macro_auc(np.array([0, 1]), np.full((2, 3), 1 / 3))
    assert metric.value is None
    assert metric.reason.startswith("class 2")


def test_youden_threshold_lies_halfway_and_calls_as_it_was_chosen():
    # cut at 0.35: sensitivity 1, specificity 1/2; cut at 0.8: 1/2 and 1: equal sums, the higher cut wins
    assert choose_threshold(LABELS, SCORES, rule="youden", min_sensitivity=0.5) == pytest.approx(0.6)


def test_of_equal_youden_sums_the_highest_cut_wins_though_their_floats_differ():
    labels, scores = np.array([1, 1, 0, 1, 0, 0]), np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    # 2/3 at 0.8 (2/3 - 0) and at 0.6 (1 - 1/3, as a float 2/3 and a little more)
    assert choose_threshold(labels, scores, rule="youden", min_sensitivity=1.0) == pytest.approx(0.75)


def test_sensitivity_rule_keeps_sensitivity_at_the_best_specificity():
    threshold = choose_threshold(LABELS, SCORES, rule="sensitivity", min_sensitivity=0.95)
    assert threshold == pytest.approx((0.35 + 0.1) / 2)
    assert operating_point(LABELS, threshold <= SCORES).sensitivity.value == 1.0


def test_threshold_between_neighboring_floats_still_separates():
    low = 0.5
    high = math.nextafter(low, 1.0)
    threshold = choose_threshold(np.array([0, 1]), np.array([low, high]), rule="youden", min_sensitivity=1.0)
    assert low < threshold <= high


def test_threshold_of_one_class_is_one_half():
    assert choose_threshold(np.array([1, 1]), np.array([0.2, 0.9]), rule="youden", min_sensitivity=1.0) == 0.5


def test_scores_worse_than_chance_call_nothing_positive():
    threshold = choose_threshold(np.array([0, 1]), np.array([0.9, 0.1]), rule="youden", min_sensitivity=1.0)
    assert threshold > 0.9


def test_unknown_rule_is_refused():
    with pytest.raises(BadInput, match="unknown threshold_rule 'f1'; known: sensitivity, youden"):
        choose_threshold(LABELS, SCORES, rule="f1", min_sensitivity=0.5)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=25))
def test_youden_is_the_best_of_all_thresholds(pairs):
    labels = np.array([label for label, _ in pairs])
    scores = np.array([score / 8 for _, score in pairs])
    if labels.all() or not labels.any():
        return
    threshold = choose_threshold(labels, scores, rule="youden", min_sensitivity=0.5)

    def youden(cut: float) -> float:
        point = operating_point(labels, scores >= cut)
        return point.sensitivity.value + point.specificity.value

    assert youden(threshold) == pytest.approx(max(youden(cut) for cut in [*scores, 2.0]))

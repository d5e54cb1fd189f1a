import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from wsi_kd.evaluation.instance_measures import (
    attention_evidence,
    chance_levels,
    measure_instances,
    mixed_bags,
    within_bags,
)

# bag 0, positive: 0.9+ 0.2- 0.4+; bag 1, negative: 0.3- 0.8-; bag 2, positive: 0.5- 0.1+
LABELS = np.array([True, False, True, False, False, False, True])
SCORES = np.array([0.9, 0.2, 0.4, 0.3, 0.8, 0.5, 0.1])
BAG = np.array([0, 0, 0, 1, 1, 2, 2])
POSITIVE = np.array([True, False, True])


def test_six_measures_by_hand():
    found = measure_instances(LABELS, SCORES, bag=BAG, positive_bags=POSITIVE)
    # all: 0.9 beats 4, 0.4 beats 0.2 and 0.3, 0.1 beats none: 6 of 12
    assert found.roc_auc.value == pytest.approx(6 / 12)
    # descending 0.9+ .8- .5- .4+ .3- .2- .1+: (1/1 + 2/4 + 3/7) / 3
    assert found.average_precision.value == pytest.approx((1 + 2 / 4 + 3 / 7) / 3)
    # positive bags: 0.9 beats both, 0.4 beats 0.2, 0.1 none: 3 of 6; 0.9+ .5- .4+ .2- .1+
    assert found.roc_auc_positive_bags.value == pytest.approx(3 / 6)
    assert found.average_precision_positive_bags.value == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    # within: bag 0 is perfect, bag 2 is upside down (AP 1/2)
    assert found.roc_auc_within_bag.value == pytest.approx((1 + 0) / 2)
    assert found.average_precision_within_bag.value == pytest.approx((1 + 1 / 2) / 2)


def test_chance_by_hand():
    found = chance_levels(LABELS, bag=BAG, positive_bags=POSITIVE)
    assert found == pytest.approx((3 / 7, 3 / 5, (2 / 3 + 1 / 2) / 2))
    nothing = chance_levels(np.zeros(2, dtype=bool), bag=np.array([0, 0]), positive_bags=np.array([False]))
    assert nothing == (0.0, None, None)


def test_a_score_without_information_reaches_chance():
    generator = np.random.default_rng(0)
    labels, bag = generator.random(40_000) < 0.1, np.repeat(np.arange(40), 1000)
    positive = np.ones(40, dtype=bool)
    found = measure_instances(labels, generator.random(40_000), bag=bag, positive_bags=positive)
    chance = chance_levels(labels, bag=bag, positive_bags=positive)
    assert found.roc_auc.value == pytest.approx(0.5, abs=0.01)
    assert found.roc_auc_within_bag.value == pytest.approx(0.5, abs=0.01)
    assert found.average_precision.value == pytest.approx(chance.average_precision, abs=0.01)


def test_an_offset_of_each_bag_moves_all_measures_but_those_within_bags():
    generator = np.random.default_rng(1)
    labels, bag = generator.random(300) < 0.3, np.repeat(np.arange(6), 50)
    scores = generator.random(300) + labels
    positive = np.ones(6, dtype=bool)
    plain, moved = (
        measure_instances(labels, scores + offset * bag, bag=bag, positive_bags=positive) for offset in (0, 5)
    )
    assert plain[4:] == moved[4:]
    assert plain.roc_auc.value > moved.roc_auc.value + 0.1


def test_within_bags_is_the_area_of_each_bags_own_curve_in_any_order():
    generator = np.random.default_rng(3)
    labels, bag = generator.random(300) < 0.3, generator.permutation(np.repeat(np.arange(6), 50))
    labels[bag == 2] = False
    scores = generator.integers(0, 8, 300).astype(np.float64)  # many ties
    found = within_bags(labels, scores, bag=bag)
    assert found.bags.tolist() == [0, 1, 3, 4, 5]
    for metric, areas in ((roc_auc_score, found.roc_auc), (average_precision_score, found.average_precision)):
        expected = [metric(labels[bag == which], scores[bag == which]) for which in found.bags]
        np.testing.assert_allclose(areas, expected, rtol=1e-12)


def test_bags_without_instances_or_with_one_label_are_not_mixed():
    found = mixed_bags(np.array([True, False, True]), bag=np.array([3, 3, 1]))
    assert (found.bags.tolist(), found.share.tolist()) == ([3], [0.5])


def test_one_label_gives_reasons():
    found = measure_instances(
        np.zeros(2, dtype=bool), np.array([0.1, 0.2]), bag=np.array([0, 0]), positive_bags=np.array([True])
    )
    assert [metric.value for metric in found] == [None] * 6
    assert found.roc_auc.reason == "no positives among 2"


def test_attention_evidence_is_their_product():
    assert attention_evidence(np.array([2.0, 0.5]), np.array([0.25, 1.0])).tolist() == [0.5, 0.5]

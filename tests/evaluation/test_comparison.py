import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from wsi_kd.evaluation.comparison import (
    Comparison,
    area_covariance,
    bootstrap_test,
    delong_test,
    mean_of_independent,
)
from wsi_kd.evaluation.intervals import draw_resamples, ranked_counts, resampled_areas

# positives 0.9 0.4, negatives 0.5 0.1; and positives 0.8 0.7, negatives 0.6 0.75
LABELS = np.array([True, True, False, False])
FIRST = np.array([0.9, 0.4, 0.5, 0.1])
SECOND = np.array([0.8, 0.7, 0.6, 0.75])


def test_areas_and_covariance_by_hand():
    found = area_covariance(LABELS, np.stack([FIRST, SECOND]))
    assert found.areas == pytest.approx([3 / 4, 3 / 4])
    # first: V10 = (1, 1/2), V01 = (1/2, 1); second: V10 = (1, 1/2), V01 = (1, 1/2)
    # S10 = [[1/8, 1/8], [1/8, 1/8]], S01 = [[1/8, -1/8], [-1/8, 1/8]]; covariance = S10 / 2 + S01 / 2
    assert found.covariance == pytest.approx(np.array([[1 / 8, 0.0], [0.0, 1 / 8]]), abs=1e-15)


def test_delong_by_hand():
    found = delong_test(LABELS, FIRST, np.array([0.2, 0.7, 0.6, 0.75]))
    # second: V10 = (0, 1/2), V01 = (1/2, 0), area 1/4; the difference has V10 = (1, 0), V01 = (0, 1)
    assert found.difference == pytest.approx(1 / 2)
    assert found.standard_error == pytest.approx(math.sqrt(1 / 4 + 1 / 4))
    assert found.p_value == pytest.approx(2 * (1 - norm.cdf(0.5 / math.sqrt(0.5))))
    assert (found.low, found.high) == (
        pytest.approx(0.5 - 1.959964 * math.sqrt(0.5), abs=1e-6),
        pytest.approx(1.0),  # 1.89: no difference of areas is above 1
    )


def _brute_covariance(labels, scores):
    """DeLong's structural components from every pair of slides."""
    positives, negatives = scores[:, labels], scores[:, ~labels]
    wins = (positives[:, :, None] > negatives[:, None, :]) + 0.5 * (
        positives[:, :, None] == negatives[:, None, :]
    )
    return np.cov(wins.mean(axis=2)) / labels.sum() + np.cov(wins.mean(axis=1)) / (~labels).sum()


def test_midranks_equal_all_pairs_with_ties():
    generator = np.random.default_rng(0)
    labels = generator.random(60) < 0.4
    scores = np.round(generator.random((3, 60)) + 0.3 * labels, 1)
    found = area_covariance(labels, scores)
    assert found.areas == pytest.approx([roc_auc_score(labels, row) for row in scores], abs=1e-12)
    assert found.covariance == pytest.approx(_brute_covariance(labels, scores), abs=1e-12)


def test_slides_that_repeat_a_case_add_no_certainty():
    generator = np.random.default_rng(1)
    labels = np.arange(50) % 2 == 0
    first, second = (generator.normal(size=50) + labels for _ in range(2))
    once = delong_test(labels, first, second)
    cases = np.tile(np.arange(50), 3)
    thrice = delong_test(np.tile(labels, 3), np.tile(first, 3), np.tile(second, 3), cases=cases)
    assert thrice == pytest.approx(once)
    blind = delong_test(np.tile(labels, 3), np.tile(first, 3), np.tile(second, 3))
    assert blind.standard_error < 0.6 * once.standard_error


def test_a_case_with_both_labels_brings_its_cross_term():
    """Obuchowski's variance against the bootstrap of cases, half of which hold both labels."""
    generator = np.random.default_rng(2)
    cases = np.repeat(np.arange(400), 2)
    labels = generator.random(800) < 0.5
    scores = labels + generator.normal(size=800) + 2.0 * generator.normal(size=400)[cases]
    error = math.sqrt(area_covariance(labels, scores[None], cases=cases).covariance[0, 0])
    per_class = np.stack([np.bincount(cases[labels == k], minlength=400) for k in (False, True)]).astype(
        float
    )
    counts = draw_resamples(per_class, samples=2000, seed=0).counts
    areas = resampled_areas(ranked_counts(labels, scores, cases=cases, case_count=400), counts).roc_auc
    assert error == pytest.approx(areas.std(), rel=0.06)


def test_several_seeds_are_compared_by_their_mean_area():
    generator = np.random.default_rng(3)
    labels = np.arange(80) % 2 == 0
    first, second = (generator.normal(size=(count, 80)) + labels for count in (3, 2))
    found = delong_test(labels, first, second)
    means = [np.mean([roc_auc_score(labels, row) for row in rows]) for rows in (first, second)]
    assert found.difference == pytest.approx(means[0] - means[1], abs=1e-12)
    one = delong_test(labels, first[:1], second[:1])
    assert one == delong_test(labels, first[0], second[0])
    assert found.standard_error < one.standard_error  # independent noise averages out


def test_sides_exchanged_change_the_sign_alone():
    generator = np.random.default_rng(4)
    labels = np.arange(40) % 2 == 0
    first, second = (generator.normal(size=40) + labels for _ in range(2))
    there, back = delong_test(labels, first, second), delong_test(labels, second, first)
    assert there.p_value == pytest.approx(back.p_value)
    assert (there.difference, there.low) == (pytest.approx(-back.difference), pytest.approx(-back.high))


def test_equal_order_is_certain_and_no_variance_is_told():
    labels = np.array([True, True, False, False])
    perfect = np.array([0.9, 0.8, 0.2, 0.1])
    same = delong_test(labels, perfect, np.exp(perfect))
    assert same == Comparison(0.0, 0.0, 0.0, 0.0, 1.0)
    opposite = delong_test(labels, perfect, -perfect)
    assert (opposite.difference, opposite.p_value) == (1.0, None)
    assert "no variance" in opposite.reason


@pytest.mark.parametrize(
    ("labels", "cases", "words"),
    [
        ([True, False, False], None, "1 cases with positive slides"),
        ([True, True, True], None, "0 cases with negative slides"),
        ([True, True, False, False], [0, 0, 1, 2], "1 cases with positive slides"),
    ],
)
def test_too_few_cases_give_a_reason(labels, cases, words):
    labels = np.array(labels)
    scores = np.linspace(0, 1, len(labels))
    found = delong_test(labels, scores, -scores, cases=None if cases is None else np.array(cases))
    assert (found.difference, found.p_value) == (None, None)
    assert words in found.reason
    with pytest.raises(ValueError, match=words):
        area_covariance(labels, scores[None], cases=None if cases is None else np.array(cases))


def _null_pair(generator, slides=80):
    """Two scores with the same true AUC that share half of their noise."""
    labels = np.arange(slides) % 2 == 0
    shared = generator.normal(size=slides) + labels
    return labels, shared + generator.normal(size=slides), shared + generator.normal(size=slides)


def test_delong_rejects_one_in_twenty_true_nulls():
    generator = np.random.default_rng(5)
    values = np.array([delong_test(*_null_pair(generator)).p_value for _ in range(1000)])
    assert 0.03 < (values < 0.05).mean() < 0.07
    assert 0.45 < (values < 0.5).mean() < 0.55


def test_bootstrap_rejects_about_one_in_twenty_true_nulls():
    generator = np.random.default_rng(6)
    rejected = 0
    for _ in range(200):
        labels, first, second = _null_pair(generator)
        counts = draw_resamples(np.stack([~labels, labels]).astype(float), samples=200, seed=0).counts
        areas = [
            resampled_areas(ranked_counts(labels, row, cases=np.arange(80), case_count=80), counts).roc_auc
            for row in (first, second)
        ]
        difference = roc_auc_score(labels, first) - roc_auc_score(labels, second)
        rejected += bootstrap_test(*areas, difference=difference).p_value < 0.05
    assert 0.015 < rejected / 200 < 0.1


def test_delong_agrees_with_exchanging_the_scores_of_slides_at_random():
    """Permutation: under the null the two scores of a slide, as ranks, may be exchanged."""
    generator = np.random.default_rng(7)
    labels = np.arange(120) % 2 == 0
    shared = generator.normal(size=120)
    ranks = [np.argsort(np.argsort(row)) for row in (shared + labels, shared + 0.45 * labels)]
    ranks = [rank + 0.3 * generator.normal(size=120) for rank in ranks]

    def difference(first, second):
        return np.subtract(*((row[labels, None] > row[~labels]).mean() for row in (first, second)))

    observed = difference(*ranks)
    drawn = [
        difference(np.where(swap, *ranks), np.where(swap, *ranks[::-1]))
        for swap in generator.random((2000, 120)) < 0.5
    ]
    permuted = np.mean(np.abs(drawn) >= abs(observed) - 1e-12)
    assert delong_test(labels, *ranks).p_value == pytest.approx(permuted, abs=0.03)


def test_bootstrap_counts_by_hand():
    first, second = np.array([0.6, 0.7, 0.8, 0.9]), np.array([0.65, 0.6, 0.6, 0.6])
    found = bootstrap_test(first, second, difference=0.15, confidence=0.5)
    # differences -0.05, 0.1, 0.2, 0.3: one at or below zero, 2 (1 + 1) / 5; quartiles 0.0625 and 0.225
    assert found.p_value == pytest.approx(0.8)
    assert (found.low, found.high) == (pytest.approx(0.0625), pytest.approx(0.225))
    assert found.difference == 0.15
    assert found.standard_error == pytest.approx(np.std([-0.05, 0.1, 0.2, 0.3], ddof=1))


def test_bootstrap_p_is_one_without_any_difference_and_never_zero():
    values = np.linspace(0.5, 0.9, 99)
    assert bootstrap_test(values, values, difference=0.0).p_value == 1.0
    assert bootstrap_test(values + 0.05, values, difference=0.05).p_value == pytest.approx(2 / 100)


def test_fresh_draws_are_combined_by_their_mean():
    parts = [Comparison(0.1, 0.03, 0, 0, 0, ""), Comparison(0.2, 0.04, 0, 0, 0, "")]
    found = mean_of_independent(parts)
    assert found.difference == pytest.approx(0.15)
    assert found.standard_error == pytest.approx(0.05 / 2)
    assert found.p_value == pytest.approx(math.erfc(6 / math.sqrt(2)))
    undefined = Comparison(None, None, None, None, None, "no positives")
    assert mean_of_independent([*parts, undefined]) == undefined


def test_slides_of_a_patient_that_are_alike_do_not_make_nulls_look_real():
    generator = np.random.default_rng(8)
    cases, labels = np.repeat(np.arange(40), 3), np.repeat(np.arange(40) % 2 == 0, 3)
    rejected = np.zeros(2)
    for _ in range(400):
        alike = generator.normal(size=(2, 40))[:, cases]
        first, second = labels + alike + 0.3 * generator.normal(size=(2, 120))
        tests = (delong_test(labels, first, second, cases=cases), delong_test(labels, first, second))
        rejected += [found.p_value < 0.05 for found in tests]
    assert 0.02 < rejected[0] / 400 < 0.09
    assert rejected[1] / 400 > 0.2  # each slide for itself: one null in four looks real

import numpy as np
import pytest

from wsi_kd.evaluation.aggregates import pooled_metric
from wsi_kd.evaluation.classification import average_precision, roc_auc
from wsi_kd.evaluation.intervals import (
    MAX_GROUPS,
    case_indices,
    draw_resamples,
    percentile_interval,
    ranked_counts,
    resampled_areas,
)
from wsi_kd.evaluation.scored_slides import SlideScores, class_counts


def _cohort(seed: int = 0, slides: int = 40, cases: int = 15):
    generator = np.random.default_rng(seed)
    labels = generator.random(slides) < 0.5
    scores = np.round(generator.random(slides) + 0.4 * labels, 1)  # rounded: many ties
    return labels, scores, generator.integers(0, cases, slides)


def test_resampled_areas_equal_scikit_learn_on_copied_slides():
    labels, scores, cases = _cohort()
    per_class = np.stack([np.bincount(cases[labels == k], minlength=15) for k in (False, True)]).astype(float)
    resamples = draw_resamples(per_class, samples=20, seed=3)
    areas = resampled_areas(ranked_counts(labels, scores, cases=cases, case_count=15), resamples.counts)
    for column in range(20):
        copies = resamples.counts[cases, column].astype(int)
        copied_labels, copied_scores = np.repeat(labels, copies), np.repeat(scores, copies)
        assert areas.roc_auc[column] == pytest.approx(roc_auc(copied_labels, copied_scores).value, abs=1e-12)
        expected = average_precision(copied_labels, copied_scores).value
        assert areas.average_precision[column] == pytest.approx(expected, abs=1e-12)


def test_every_resample_draws_as_many_cases_as_there_are_and_holds_both_classes():
    per_class = np.array([[1.0, 1, 1, 1, 0], [0, 0, 0, 0, 1]])
    resamples = draw_resamples(per_class, samples=500, seed=0)
    assert resamples.counts.shape == (5, 500)
    assert (resamples.counts.sum(axis=0) == 5).all()
    assert (per_class @ resamples.counts > 0).all()
    # a resample lacks the only positive case with probability 0.8^5 = 0.328: 500 / 0.672 - 500 = 244 expected
    assert 180 < resamples.redrawn < 320


def test_resamples_depend_on_the_seed_alone():
    per_class = np.ones((2, 6))
    first, again, other = (draw_resamples(per_class, samples=9, seed=seed).counts for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_class_without_members_has_no_resamples():
    assert draw_resamples(np.array([[1.0, 1.0], [0.0, 0.0]]), samples=10, seed=0) is None


def test_classes_that_no_draw_can_hold_together_end():
    assert draw_resamples(np.eye(40), samples=5, seed=0) is None  # 40 cases, each the only one of its class


def test_slides_of_one_case_go_together():
    # one case holds every slide twice: its interval must be as wide as with each slide once
    labels, scores, cases = _cohort(cases=40, slides=40)
    cases = np.arange(40)
    per_class = np.stack([np.bincount(cases[labels == k], minlength=40) for k in (False, True)]).astype(float)
    counts = draw_resamples(per_class, samples=300, seed=0).counts
    once = resampled_areas(ranked_counts(labels, scores, cases=cases, case_count=40), counts)
    twice = resampled_areas(
        ranked_counts(np.tile(labels, 2), np.tile(scores, 2), cases=np.tile(cases, 2), case_count=40), counts
    )
    assert np.allclose(once.roc_auc, twice.roc_auc)


def test_merging_many_scores_into_groups_moves_the_area_by_little():
    generator = np.random.default_rng(0)
    labels = generator.random(5 * MAX_GROUPS) < 0.1
    scores = generator.normal(size=len(labels)) + labels
    ranked = ranked_counts(labels, scores, cases=np.zeros(len(labels), dtype=np.int64), case_count=1)
    assert len(ranked.positives) == MAX_GROUPS
    areas = resampled_areas(ranked, np.ones((1, 1)))
    assert areas.roc_auc[0] == pytest.approx(roc_auc(labels, scores).value, abs=1e-4)
    assert areas.average_precision[0] == pytest.approx(average_precision(labels, scores).value, abs=1e-3)


def test_interval_covers_the_true_area_about_as_often_as_it_says():
    # normal scores one deviation apart: AUC = Phi(1 / sqrt 2) = 0.7602
    covered = 0
    for trial in range(100):
        generator = np.random.default_rng(trial)
        labels = np.arange(60) % 2 == 1
        scores = generator.normal(size=60) + labels
        cases = np.arange(60)
        counts = draw_resamples(np.stack([~labels, labels]).astype(float), samples=200, seed=trial).counts
        areas = resampled_areas(ranked_counts(labels, scores, cases=cases, case_count=60), counts)
        interval = percentile_interval(areas.roc_auc, confidence=0.95)
        covered += interval.low <= 0.7602 <= interval.high
    assert 87 <= covered <= 100


def test_case_indices_point_into_the_cases():
    assert case_indices(["b", "a", "b"], ["a", "b"]).tolist() == [1, 0, 1]


@pytest.mark.parametrize(("defined", "low"), [(49, None), (50, 0.5)])
def test_an_interval_needs_half_of_the_resamples(defined, low):
    values = np.array([0.5] * defined + [np.nan] * (100 - defined))
    resamples = draw_resamples(np.ones((2, 4)), samples=100, seed=0)
    found = pooled_metric([{"value": 0.5, "reason": ""}], [values], resamples=resamples, confidence=0.95)
    assert (found["estimate"], found["low"], found["high"]) == (0.5, low, low)
    assert (found["resamples"], bool(found["reason"])) == ((0, True) if low is None else (50, False))


def test_every_resample_suits_every_seed():
    def part(seed, labels):
        none = np.zeros(len(labels))
        return SlideScores(seed, None, ("a", "b"), ("a", "b"), np.array(labels), none, none > 0, None, None)

    both = [part(0, [1, 1]), part(1, [1, 0])]
    for parts in (both, both[::-1]):
        assert class_counts(parts, ["a", "b"]).tolist() == [[0.0, 0.0], [1.0, 0.0]]

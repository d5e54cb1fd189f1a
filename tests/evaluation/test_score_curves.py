"""ROC and precision-recall curves and bands against hand-worked steps and the areas of the evaluation."""

import numpy as np
import pytest

from wsi_kd.evaluation.classification import average_precision, roc_auc
from wsi_kd.evaluation.curves import score_curves
from wsi_kd.evaluation.intervals import case_indices, draw_resamples, ranked_counts, resampled_areas
from wsi_kd.evaluation.ranked_slides import areas_of, rank_slides
from wsi_kd.evaluation.sampled_scores import sample_scores
from wsi_kd.evaluation.scored_slides import SlideScores


def part(labels, scores, *, seed=0, cases=None):
    names = tuple(map(str, range(len(labels))))
    scores = np.array(scores, dtype=np.float64)
    calls = scores >= 0.5
    cases = names if cases is None else tuple(cases)
    return SlideScores(seed, 0, names, cases, np.array(labels, np.int64), scores, calls, None, 0.5)


def curves(*parts, samples=200, confidence=0.95):
    return score_curves(sample_scores(parts, samples=samples, confidence=confidence, seed=0))


def at(curve, rate):
    return curve["sensitivity"][int(np.argmin(np.abs(np.array(curve["false_positive_rate"]) - rate)))]


def test_the_roc_curve_is_the_empirical_polygon():
    # Ordered by score: positive, negative, positive, negative. Steps at false positive rates 0 and 0.5.
    roc = curves(part([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]))["roc"]
    assert (at(roc, 0.0), at(roc, 0.25), at(roc, 0.5)) == (0.5, 0.5, 1.0)


def test_tied_scores_are_joined_by_a_slope():
    roc = curves(part([1, 0, 1, 0], [0.5] * 4))["roc"]
    assert roc["sensitivity"] == pytest.approx(roc["false_positive_rate"], abs=1e-6)


def test_the_area_below_the_roc_curve_is_the_auc():
    rng = np.random.default_rng(3)
    labels = np.arange(81) < 41  # 40 negatives: every step lies on the grid of 201 rates
    scores = rng.normal(labels * 0.8, 1.0)
    # The curve is flat from each grid point to the next one, so its area is the mean of the left ends.
    steps = curves(part(labels, scores))["roc"]["sensitivity"][:-1]
    assert np.mean(steps) == pytest.approx(roc_auc(labels.astype(int), scores).value, abs=1e-6)


def test_the_precision_curve_by_hand_and_its_area_is_the_average_precision():
    # positives at ranks 1, 3, 4 of 5: precision 1, 2/3, 3/4 where recall 1/3, 2/3, 1 is first reached
    pr = curves(part([1, 0, 1, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.5]))["pr"]
    precision = dict(zip(pr["recall"], pr["precision"], strict=True))
    assert [precision[recall] for recall in (0.0, 0.33, 0.34, 0.66, 0.67, 1.0)] == pytest.approx(
        [1.0, 1.0, 2 / 3, 2 / 3, 3 / 4, 3 / 4], abs=1e-6
    )
    assert pr["chance"] == 0.6
    rng = np.random.default_rng(5)
    labels = np.arange(80) < 20  # 20 positives: every step of recall lies on the grid of 101
    scores = rng.normal(labels * 1.0, 1.0)
    steps = curves(part(labels, scores))["pr"]["precision"][1:]
    assert np.mean(steps) == pytest.approx(average_precision(labels.astype(int), scores).value, abs=1e-6)


def test_seeds_are_averaged_at_each_rate():
    roc = curves(part([1, 1, 0, 0], [0.4, 0.3, 0.2, 0.1]), part([1, 1, 0, 0], [0.1] * 4, seed=1))["roc"]
    assert at(roc, 0.5) == pytest.approx((1.0 + 0.5) / 2)


@pytest.mark.parametrize(("name", "values"), [("roc", "sensitivity"), ("pr", "precision")])
def test_the_band_holds_the_curve_and_widens_with_confidence(name, values):
    rng = np.random.default_rng(5)
    labels = np.arange(60) % 2
    one = part(labels, rng.normal(labels * 1.0, 1.0))
    wide, narrow = (curves(one, confidence=level)[name] for level in (0.95, 0.5))
    assert wide == curves(one)[name]
    low, high = np.array(wide["low"]), np.array(wide["high"])
    assert ((low <= np.array(wide[values]) + 1e-6) & (np.array(wide[values]) <= high + 1e-6)).mean() > 0.95
    assert (low <= np.array(narrow["low"])).all()
    assert (high >= np.array(narrow["high"])).all()
    assert (high - low).max() > 0.1


def test_slides_of_one_case_are_drawn_together():
    # One positive and one negative case, ten slides each: no resample with both classes can differ.
    labels = [1] * 10 + [0] * 10
    scores = np.linspace(1, 0, 20) + np.tile([0.3, -0.3], 10)
    for curve, values in zip(
        curves(part(labels, scores, cases=["a"] * 10 + ["b"] * 10)).values(),
        ("sensitivity", "precision"),
        strict=True,
    ):
        assert curve["low"] == curve["high"] == curve[values]


def test_one_class_no_slides_and_scores_that_are_no_numbers_have_a_reason():
    for one, told in (
        (part([1, 1], [0.1, 0.2]), "no negatives among 2"),
        (part([0], [0.1]), "no positives among 1"),
        (part([], []), "no slide with a label"),
        (part([0, 1], [0.3, np.nan]), "1 of 2 scores are not finite (first: slide 1)"),
    ):
        found = curves(one)
        assert (found["roc"]["reason"], found["pr"]["reason"]) == (told, told)
        assert (found["roc"]["sensitivity"], found["pr"]["precision"], found["roc"]["low"]) == ([], [], None)


def test_resampled_areas_are_those_of_counts_per_case():
    rng = np.random.default_rng(8)
    labels, scores = rng.random(90) < 0.4, rng.integers(0, 25, 90) / 25.0
    names = [f"c{index % 37}" for index in range(90)]
    cases = case_indices(names, sorted(set(names)))
    per_case = np.stack([np.bincount(cases[which], minlength=37) for which in (labels, ~labels)]).astype(
        float
    )
    counts = draw_resamples(per_case, samples=50, seed=1).counts
    ours = areas_of(rank_slides(labels, scores, cases=cases), counts)
    theirs = resampled_areas(ranked_counts(labels, scores, cases=cases, case_count=37), counts)
    np.testing.assert_allclose(ours.roc_auc, theirs.roc_auc, atol=1e-12)
    np.testing.assert_allclose(ours.average_precision, theirs.average_precision, atol=1e-12)

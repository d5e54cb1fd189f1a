"""ROC curves and bands against hand-worked polygons and the AUC of the evaluation."""

import numpy as np
import pytest

from wsi_kd.evaluation.classification import roc_auc
from wsi_kd.report.curves import ScoredSlides, roc_band


def slides(labels, scores, cases=None):
    cases = tuple(str(index) for index in range(len(labels))) if cases is None else tuple(cases)
    return ScoredSlides(cases, np.array(labels, bool), np.array(scores, float))


def band(*seeds, **changes):
    return roc_band(seeds, **({"samples": 200, "confidence": 0.95, "seed": 0} | changes))


def at(curve, rate, values):
    return values[int(np.argmin(np.abs(curve.false_positive_rate - rate)))]


def test_the_curve_is_the_empirical_polygon():
    # Ordered by score: positive, negative, positive, negative. Steps at false positive rates 0 and 0.5.
    curve = band(slides([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]))
    assert at(curve, 0.0, curve.sensitivity) == 0.5
    assert at(curve, 0.25, curve.sensitivity) == 0.5
    assert at(curve, 0.5, curve.sensitivity) == 1.0


def test_tied_scores_are_joined_by_a_slope():
    curve = band(slides([1, 0, 1, 0], [0.5, 0.5, 0.5, 0.5]))
    np.testing.assert_allclose(curve.sensitivity, curve.false_positive_rate, atol=1e-12)


def test_the_area_below_the_curve_is_the_auc():
    rng = np.random.default_rng(3)
    labels = rng.random(81) < 0.5
    labels[:41], labels[41:] = True, False  # 40 negatives: every step lies on the grid of 201 rates
    scores = rng.normal(labels * 0.8, 1.0)
    curve = band(slides(labels, scores))
    # The curve is flat from each grid point to the next one, so its area is the mean of the left ends.
    steps = curve.sensitivity[:-1].mean()
    assert steps == pytest.approx(roc_auc(labels.astype(int), scores).value, abs=1e-9)


def test_seeds_are_averaged_at_each_rate():
    perfect, chance = slides([1, 1, 0, 0], [4.0, 3.0, 2.0, 1.0]), slides([1, 1, 0, 0], [1.0, 1.0, 1.0, 1.0])
    curve = band(perfect, chance)
    assert at(curve, 0.5, curve.sensitivity) == pytest.approx((1.0 + 0.5) / 2)


def test_the_band_holds_the_curve_widens_with_confidence_and_is_reproducible():
    rng = np.random.default_rng(5)
    labels = np.arange(60) % 2 == 0
    part = slides(labels, rng.normal(labels * 1.0, 1.0))
    wide, narrow = band(part), band(part, confidence=0.5)
    assert (wide.low <= wide.sensitivity + 0.1).all()
    assert (wide.low <= narrow.low).all()
    assert (wide.high >= narrow.high).all()
    assert (wide.high - wide.low).max() > 0.1
    np.testing.assert_array_equal(wide.low, band(part).low)


def test_slides_of_one_case_are_drawn_together():
    # One positive and one negative case, ten slides each: no resample with both classes can differ.
    labels = [1] * 10 + [0] * 10
    scores = np.linspace(1, 0, 20) + np.tile([0.3, -0.3], 10)
    curve = band(slides(labels, scores, cases=["a"] * 10 + ["b"] * 10))
    np.testing.assert_allclose(curve.low, curve.sensitivity)
    np.testing.assert_allclose(curve.high, curve.sensitivity)


def test_one_class_has_no_curve():
    assert band(slides([1, 1], [0.1, 0.2])) is None
    assert band(slides([0, 0], [0.1, 0.2])) is None

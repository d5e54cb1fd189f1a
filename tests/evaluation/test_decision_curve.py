"""Net benefit by hand and in its limits."""

import numpy as np
import pytest

from wsi_kd.evaluation.decision_curve import THRESHOLDS, decision_curve, net_benefit
from wsi_kd.evaluation.sampled_scores import sample_scores
from wsi_kd.evaluation.scored_slides import SlideScores


def curve(labels, scores, *, scaled=None, seeds=1):
    scores = np.array(scores, dtype=np.float64)
    names = tuple(map(str, range(len(labels))))
    parts = [
        SlideScores(seed, 0, names, names, np.array(labels, np.int64), scores, scores >= 0.5, None, 0.5)
        for seed in range(seeds)
    ]
    return decision_curve(sample_scores(parts, samples=100, confidence=0.95, seed=0), scaled=scaled)


def test_net_benefit_of_four_slides_by_hand():
    labels, scores = np.array([True, True, False, False]), np.array([0.9, 0.3, 0.6, 0.1])
    found = dict(zip(THRESHOLDS.round(2).tolist(), net_benefit(labels, scores), strict=True))
    assert found[0.05] == pytest.approx((2 - 2 * 0.05 / 0.95) / 4)
    assert found[0.2] == pytest.approx((2 - 1 * 0.25) / 4)
    assert found[0.5] == pytest.approx((1 - 1) / 4)
    assert found[0.9] == pytest.approx(1 / 4)  # a score on the threshold is called
    assert found[0.95] == 0.0


def test_all_none_and_a_perfect_model():
    found = curve([1, 0, 0, 0], [1.0, 0.0, 0.0, 0.0])
    assert found["thresholds"][0] == 0.01
    assert found["model"] == pytest.approx([0.25] * 99)  # the prevalence, at every price
    assert (found["none"], found["prevalence"]) == (0.0, 0.25)
    at_half, at_quarter = found["all"][49], found["all"][24]
    assert at_half == pytest.approx(0.25 - 0.75)
    assert at_quarter == pytest.approx(0.0, abs=1e-6)  # treat all pays up to the prevalence


def test_one_score_for_every_slide_is_treat_all_below_it_and_treat_none_above():
    found = curve([1, 0], [0.4, 0.4])
    assert found["model"][:40] == pytest.approx(found["all"][:40], abs=1e-6)
    assert found["model"][40:] == [0.0] * 59


def test_the_band_holds_the_curve_and_the_scaled_curve_is_its_own():
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    scores = np.clip(rng.normal(0.35 + 0.3 * labels, 0.2), 0.0, 1.0)
    sharp = np.clip(2 * scores - 0.5, 0.0, 1.0)
    found = curve(labels, scores, scaled=[sharp, sharp], seeds=2)
    low, model, high = (np.array(found[name]) for name in ("low", "model", "high"))
    assert (low <= model + 1e-6).mean() > 0.95
    assert (model <= high + 1e-6).mean() > 0.95
    assert found["scaled"] == pytest.approx(net_benefit(labels > 0, sharp), abs=1e-6)
    assert found["scaled"] != found["model"]


def test_without_slides_there_is_a_reason_and_with_one_class_no_band():
    empty = curve([], [])
    assert (empty["model"], empty["prevalence"], empty["reason"]) == ([], None, "no slide with a label")
    negative = curve([0, 0], [0.2, 0.7])
    assert (negative["low"], negative["reason"], negative["prevalence"]) == (None, "", 0.0)
    assert negative["model"][49] == pytest.approx(-0.5)
